-- Calls have left, or gone with another's send: give up their places. Also how replicas report when they want nothing.
begin()
keep_places()
return tell()
