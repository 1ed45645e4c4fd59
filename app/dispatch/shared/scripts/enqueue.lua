-- Calls have come in: keep a place for each, and take a turn at once if it is one's own.
begin()
keep_places()
take_turn(drop_the_dead())
return tell()
