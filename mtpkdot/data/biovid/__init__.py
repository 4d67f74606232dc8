"""BioVid Heat Pain: DataModule, layout on disk, generated twin."""
