"""What the frozen networks make of clips and captions, computed once and kept in files."""
