"""XR2Text: chest X-ray reports written from seven anatomical regions."""

__version__ = "0.1.0"
