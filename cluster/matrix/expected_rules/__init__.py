"""Rules of declared differences: they compute what an engine gives instead of the truth."""
