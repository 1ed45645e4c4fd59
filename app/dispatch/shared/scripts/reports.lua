-- Reports of how sends went. One that comes twice, or late, changes nothing of what is another's by now.

local function hold_of(id)
  for _, slot in ipairs(slots) do
    if slot.hold == id then
      return slot
    end
  end
end

-- A claim of which nothing was sent: its slot is as it was before, its place too.
local function take_back(id, send)
  local slot = hold_of(id)
  if slot then
    slot.ends, slot.hold, slot.owner = slot.opened, '', ''
  end
  add_lost_place(send)
end

local function heed_send(report)
  local slot, send = hold_of(report.id), me.flying[report.id]
  if report.peer then
    note_peer(report.peer)
  end
  if report.lost then
    local ends = now - report.lost + asked.per + lane.margin
    if slot then
      slot.ends = ends
    else
      -- Its slot is another's: whoever prepares to write must reckon with it.
      lane.open = math.max(lane.open, ends)
    end
  end
  if report.answered then
    if send and not send.answered then
      send.answered = true
      note_answer(report.trip)
    end
    if slot then
      slot.ends = math.min(slot.ends, now - report.answered + asked.per - share() * (smallest_trip() or 0))
    end
  end
  if report.ended then
    me.flying[report.id] = nil
    if report.back then
      take_back(report.id, send or {})
    end
  end
end

-- What this replica was granted but knows nothing of: the reply was lost, and nothing was sent.
local function take_back_unheard()
  local known = {}
  for _, id in ipairs(asked.flying) do
    known[id] = true
    me.flying[id] = me.flying[id] or {}
  end
  for _, report in ipairs(asked.reports) do
    known[report.id] = true
  end
  for id, send in pairs(me.flying) do
    if not known[id] then
      me.flying[id] = nil
      take_back(id, send)
    end
  end
end

local function begin()
  read_held()
  read_breakers()
  take_back_unheard()
  for _, report in ipairs(asked.reports) do
    heed_send(report)
  end
  heed_verdicts()
  grant_probes()
end

local function tell()
  store_held()
  store_me()
  smallest_trip()
  store_lane()
  reply.now = text(now)
  reply.open = math.max(0, lane.open - now)
  reply.slots = {}
  for i, slot in ipairs(slots) do
    reply.slots[i] = slot.ends == NEVER and -1 or math.max(0, slot.ends - now)
  end
  local own = 0
  for _, kept in pairs(held) do
    own = own + kept.count
  end
  reply.waiting, reply.waiting_elsewhere = own, total - own
  reply.before_newcomer = before_newcomer()
  reply.answers, reply.margin, reply.trip, reply.breakers = lane.answers, lane.margin, lane.trip, told_breakers()
  return cjson.encode(reply)
end
