-- The upstream answered 429 though the rule was kept: all pause, and what was learned of the network counts no more.
begin()
keep_places()
lane.open = math.max(lane.open, now + asked.pause)
if now - asked.released > lane.limited then
  local alone = share() == 0
  lane.refused = alone and lane.refused + 1 or 0
  lane.answers, lane.good, lane.limited = 0, 0, now
  lane.margin = math.min(2 * lane.margin, LARGEST_MARGIN)
  reply.elsewhere = lane.refused > 1
end
return tell()
