"""AV-HuBERT: lips and 16 kHz sound in, one vector for every 40 ms out."""
