"""fracray: find fractured bones on radiographs, and show why. A research tool, not a medical device."""

__version__ = "0.1.0"
