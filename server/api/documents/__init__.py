"""What is answered, as types: mypy holds the code to them, and GET /openapi.json shows them."""
