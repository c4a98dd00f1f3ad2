"""Reader studies: people rate reports of one scan without knowing which system wrote them."""
