"""What SQL alone cannot compute: functions that the views call."""
