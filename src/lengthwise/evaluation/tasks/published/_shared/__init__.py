"""What benchmarks of published files share: reading them, cutting documents, drawing samples."""
