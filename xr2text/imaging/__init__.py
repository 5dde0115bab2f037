"""Reading radiographs, bringing them to the model and back, and drawing synthetic ones."""
