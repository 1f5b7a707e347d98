"""What teachers that are asked over the network share: questions, answers that are kept, money, pace."""
