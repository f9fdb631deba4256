"""Files of every kind that people keep a corpus or questions in become passages and questions, one at a time."""
