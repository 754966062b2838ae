"""What the book shows: a module a chapter, a function a drawing, each returning SVG; nothing is kept in files."""
