"""The embedded captioner: MedGemma's architecture and file format at a few million parameters, and how it is
made."""
