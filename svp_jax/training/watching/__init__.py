"""What shows whether training works: logs, previews, scores, what to say when it breaks."""
