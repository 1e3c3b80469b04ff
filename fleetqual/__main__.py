"""``python -m fleetqual``."""

from fleetqual.commands.app import main

if __name__ == "__main__":
    main()
