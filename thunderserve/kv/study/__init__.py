"""What a codec does to real keys and values: taking them out of a model, and the error it makes there."""
