"""A campaign's journal: quests, combats, points of interest and narratives, kept in SQLite and served over HTTP."""
