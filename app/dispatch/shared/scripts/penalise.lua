-- The upstream answered 429 though the rule was kept: all pause, and what was learned of the network counts no more.
begin()
keep_places()
lane.open = math.max(lane.open, now + asked.pause)
note_limit(now - asked.released)
return tell()
