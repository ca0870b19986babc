"""What other face trackers wrote, as FaceParameters for FLAME and a Camera; see docs/importers.md."""
