-- Calls have left, or gone with another's send: give up their places. Also how replicas report when they want no turn.
begin()
keep_places()
return tell()
