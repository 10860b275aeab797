"""Why tools disagree: the number of each tool as the exact count plus the terms of its rule, next to the tool itself."""
