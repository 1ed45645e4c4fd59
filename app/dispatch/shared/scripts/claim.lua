-- Keep a place for each call that waits, and take a turn for the first of them.
begin()
local others = look_around()
keep_places()
take_turn(others)
return tell()
