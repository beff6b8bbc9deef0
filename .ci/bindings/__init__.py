"""What holds a notebook's text: each sentence with a result, and each formula, names what it rests on."""
