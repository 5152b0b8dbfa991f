"""What several methods of prompting/ share."""
