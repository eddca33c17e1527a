"""What tests share: a tiny random Mistral, adapters for it, and the oracle."""
