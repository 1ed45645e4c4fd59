-- What all scripts have in common: a lane's state is read, reports are heeded, places are kept, and slots are given.
-- Times are in microseconds on this server's clock; what goes out is relative to now, so that no other clock matters.

local LANE, SLOTS, FLYING, PLACES, FLOWS, HELD, REPLICAS, PEERS, TRIPS, BREAKERS = unpack(KEYS)
local asked = cjson.decode(ARGV[1])
local reply = {}

local NEVER = 1e18
local BEAT, STALE, DEAD = 250000, 1000000, 5000000 -- how often a replica asks; when it isn't waited for; when its places go
local GRACE = 50000 -- how long a slot stays for those who stand before the one that asks
local LOOKED_AT = 64
local LIFETIME = 86400000 -- milliseconds; who finds nothing begins cold
local LIFETIME_OF_PLACES = 10000 -- milliseconds; who keeps places asks all the time
local FIRST_MARGIN, LARGEST_MARGIN, GOOD_TO_HALVE = 250000, 1000000, 500
local NO_WEIGHT, LARGEST_SHARE = 10, 0.9
local BUCKET, BUCKETS, MOST_PEERS = 10000000, 31, 64
local TO_OPEN, FIRST_PAUSE, LONGEST_PAUSE = 3, 60000000, 3600000000

local function number(value, default)
  return tonumber(value or default) or default
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local found = redis.call('HMGET', LANE, 'run', 'slots', 'per', 'open', 'virtual', 'seq', 'answers', 'margin', 'good', 'refused', 'limited')
local lane = {
  open = number(found[4], 0),
  virtual = number(found[5], 0),
  seq = number(found[6], 0),
  answers = number(found[7], 0),
  margin = number(found[8], FIRST_MARGIN),
  good = number(found[9], 0),
  refused = number(found[10], 0),
  limited = number(found[11], 0),
}

local slots = {}

local function read_slots()
  local stored = redis.call('HGETALL', SLOTS)
  local fields = {}
  for i = 1, #stored, 2 do
    fields[stored[i]] = stored[i + 1]
  end
  for i = 1, asked.slots do
    slots[i] = {
      ends = number(fields['e' .. i], 0),
      opened = number(fields['o' .. i], 0),
      hold = fields['h' .. i] or '',
      owner = fields['r' .. i] or '',
    }
  end
end

local function store_slot(i)
  local slot = slots[i]
  redis.call('HSET', SLOTS, 'e' .. i, slot.ends, 'o' .. i, slot.opened, 'h' .. i, slot.hold, 'r' .. i, slot.owner)
end

-- A lane whose past isn't known: nothing is sent before all that may have been can't count any more.
local function begin_cold()
  redis.call('DEL', SLOTS, FLYING)
  lane.open = now + asked.per + lane.margin
  reply.cold = true
end

if found[1] ~= asked.run or number(found[2], 0) ~= asked.slots or number(found[3], 0) ~= asked.per or asked.cold then
  begin_cold()
end
read_slots()

-- The guard.

local function share()
  if asked.proven or lane.answers <= NO_WEIGHT then
    return 0
  end
  return LARGEST_SHARE * (1 - math.sqrt(NO_WEIGHT / lane.answers))
end

local function smallest_trip()
  local stored, oldest, least = redis.call('HGETALL', TRIPS), math.floor(now / BUCKET) - BUCKETS, nil
  for i = 1, #stored, 2 do
    if tonumber(stored[i]) <= oldest then
      redis.call('HDEL', TRIPS, stored[i])
    else
      least = math.min(least or NEVER, tonumber(stored[i + 1]))
    end
  end
  return least
end

local function note_trip(trip)
  local bucket = string.format('%.0f', math.floor(now / BUCKET))
  local least = redis.call('HGET', TRIPS, bucket)
  if not least or trip < tonumber(least) then
    redis.call('HSET', TRIPS, bucket, trip)
  end
end

local function note_peer(peer)
  if redis.call('HSETNX', PEERS, peer, 1) == 1 then
    lane.answers = 0
    if redis.call('HLEN', PEERS) > MOST_PEERS then
      redis.call('DEL', PEERS)
      redis.call('HSET', PEERS, peer, 1)
    end
  end
end

local function note_answer(trip)
  lane.answers = lane.answers + 1
  if share() > 0 then
    lane.refused = 0
  end
  note_trip(trip)
  lane.good = lane.good + 1
  if lane.good >= GOOD_TO_HALVE then
    lane.good = 0
    lane.margin = math.max(lane.margin / 2, FIRST_MARGIN)
  end
end

-- Reports of how sends went. One that comes twice, or late, changes nothing of what is another's by now.

local function heed_send(report)
  local slot = slots[report.slot]
  local holds = slot and slot.hold == report.id
  if report.peer then
    note_peer(report.peer)
  end
  if report.back then
    if holds then
      slot.ends, slot.hold = slot.opened, ''
    end
  elseif report.answered then
    note_answer(report.trip)
    if holds then
      slot.ends = math.min(slot.ends, now - report.answered + asked.per - share() * (smallest_trip() or 0))
    end
  elseif report.lost then
    local ends = now - report.lost + asked.per + lane.margin
    if holds then
      slot.ends = ends
    else
      -- Its slot is another's: whoever prepares to write must reckon with it.
      lane.open = math.max(lane.open, ends)
    end
  end
  if holds then
    store_slot(report.slot)
  end
  if report.ended then
    redis.call('HDEL', FLYING, report.id)
  end
end

local function heed_verdict(verdict)
  if verdict.accepted then
    redis.call('HDEL', BREAKERS, verdict.operation)
    return
  end
  local stored = redis.call('HGET', BREAKERS, verdict.operation)
  local breaker = stored and cjson.decode(stored) or { refusals = 0, pause = FIRST_PAUSE }
  breaker.refusals = breaker.refusals + 1
  if verdict.probe then
    breaker.pause = math.min(2 * breaker.pause, LONGEST_PAUSE)
  end
  if verdict.probe or (not breaker.since and breaker.refusals >= TO_OPEN) then
    breaker.since = string.format('%.0f', now)
  end
  redis.call('HSET', BREAKERS, verdict.operation, cjson.encode(breaker))
end

local function heed_reports()
  for _, report in ipairs(asked.reports or {}) do
    heed_send(report)
  end
  if asked.resumed then
    redis.call('DEL', BREAKERS)
  end
  for _, verdict in ipairs(asked.verdicts or {}) do
    heed_verdict(verdict)
  end
end

-- The places. Those of one flow at one replica are interchangeable, so that only their number counts.

local held = {}

local function read_held()
  local stored = redis.call('HGET', HELD, asked.replica)
  held = stored and cjson.decode(stored) or {}
end

local function store_held()
  if next(held) then
    redis.call('HSET', HELD, asked.replica, cjson.encode(held))
  else
    redis.call('HDEL', HELD, asked.replica)
  end
end

local function count(flow, change)
  local left = (held[flow] or 0) + change
  held[flow] = left > 0 and left or nil
end

local function add_place(flow, tag)
  lane.seq = lane.seq + 1
  local place = string.format('%012.0f|%s|%s', lane.seq, asked.replica, flow)
  redis.call('ZADD', PLACES, tag, place)
  count(flow, 1)
  return place
end

local function add_places(flow, missing, weight)
  local finish = number(redis.call('HGET', FLOWS, flow), 0)
  local place
  for _ = 1, missing do
    local start = math.max(lane.virtual, finish)
    finish = start + 1 / weight
    place = add_place(flow, start)
  end
  redis.call('HSET', FLOWS, flow, finish)
  reply.ranks = reply.ranks or {}
  reply.ranks[flow] = redis.call('ZRANK', PLACES, place)
end

local function remove_places(flow, surplus, weight)
  local ending = '|' .. asked.replica .. '|' .. flow
  for _, place in ipairs(redis.call('ZREVRANGE', PLACES, 0, -1)) do
    if surplus == 0 then
      break
    end
    if place:sub(-#ending) == ending then
      redis.call('ZREM', PLACES, place)
      count(flow, -1)
      surplus = surplus - 1
      local finish = number(redis.call('HGET', FLOWS, flow), 0)
      redis.call('HSET', FLOWS, flow, math.max(lane.virtual, finish - 1 / weight))
    end
  end
end

-- Bring this replica's places to the numbers that are asked for; a turn that was lost gets back the tag that it had.
local function keep_places()
  for _, back in ipairs(asked.back or {}) do
    add_place(back.flow, back.tag)
  end
  local wanted = {}
  for _, want in ipairs(asked.wants or {}) do
    wanted[want.flow] = true
    local missing = want.count - (held[want.flow] or 0)
    if missing > 0 then
      add_places(want.flow, missing, want.weight)
    elseif missing < 0 then
      remove_places(want.flow, -missing, want.weight)
    end
  end
  local gone = {}
  for flow, number_held in pairs(held) do
    if not wanted[flow] then
      gone[flow] = number_held
    end
  end
  for flow, number_held in pairs(gone) do
    remove_places(flow, number_held, 1)
  end
end

local function drop_replica(replica)
  for _, place in ipairs(redis.call('ZRANGE', PLACES, 0, -1)) do
    if place:sub(13, 14 + #replica) == '|' .. replica .. '|' then
      redis.call('ZREM', PLACES, place)
    end
  end
  for _, id in ipairs(redis.call('HKEYS', FLYING)) do
    if redis.call('HGET', FLYING, id) == replica then
      redis.call('HDEL', FLYING, id)
    end
  end
  for i, slot in ipairs(slots) do
    if slot.ends == NEVER and slot.owner == replica then
      slot.ends = now + asked.per + lane.margin
      store_slot(i)
    end
  end
  redis.call('HDEL', HELD, replica)
  redis.call('HDEL', REPLICAS, replica)
end

local function drop_the_dead()
  local stored = redis.call('HGETALL', REPLICAS)
  local lives = {}
  for i = 1, #stored, 2 do
    local silent = now - tonumber(stored[i + 1])
    if silent > DEAD then
      drop_replica(stored[i])
    else
      lives[stored[i]] = silent <= STALE
    end
  end
  return lives
end

-- The turn.

local function opens_at(i)
  return math.max(slots[i].ends, lane.open)
end

local function by_opening()
  local order = {}
  for i = 1, #slots do
    order[i] = i
  end
  table.sort(order, function(one, other)
    return slots[one].ends < slots[other].ends
  end)
  return order
end

-- The first place of this replica, and how many of others stand before it.
local function first_place(lives)
  local places, before = redis.call('ZRANGE', PLACES, 0, LOOKED_AT - 1, 'WITHSCORES'), 0
  for i = 1, #places, 2 do
    local replica, flow = places[i]:match('^%d+|([^|]*)|(.*)$')
    if replica == asked.replica then
      return { place = places[i], flow = flow, tag = tonumber(places[i + 1]) }, before
    elseif lives[replica] then
      before = before + 1
    end
  end
  return nil, before
end

local function give(i, place)
  local slot, opens = slots[i], math.max(opens_at(i), now)
  redis.call('ZREM', PLACES, place.place)
  count(place.flow, -1)
  lane.virtual = math.max(lane.virtual, place.tag)
  slot.hold, slot.owner, slot.opened = asked.id, asked.replica, opens
  slot.ends = asked.proven and NEVER or now + asked.valid + asked.per + lane.margin
  store_slot(i)
  redis.call('HSET', FLYING, asked.id, asked.replica)
  reply.grant = { slot = i, opens = opens - now, flow = place.flow, tag = place.tag }
end

-- Give the slot whose turn this replica's first place has, or say when to ask again.
local function take_turn(lives)
  if redis.call('HLEN', FLYING) >= asked.in_flight then
    reply.wait = BEAT
    return
  end
  local place, before = first_place(lives)
  if not place then
    reply.wait = BEAT
    return
  end
  local order = by_opening()
  local first = opens_at(order[1])
  local patience = GRACE * math.min(before, 3)
  local wait = first + patience - now
  if before < #slots then
    local opens = opens_at(order[before + 1])
    if opens <= now + asked.ahead then
      give(order[before + 1], place)
      return
    end
    wait = math.min(wait, opens - asked.ahead - now)
  end
  if wait <= 0 then
    give(order[1], place)
    return
  end
  reply.wait = math.min(wait, BEAT)
end

-- A claim that is older than it may be used is used on only if its slot is nobody else's.
local function renew()
  local slot = slots[asked.renew.slot]
  if slot and slot.hold == asked.renew.id and slot.ends > now then
    slot.ends = asked.proven and NEVER or now + asked.valid + asked.per + lane.margin
    store_slot(asked.renew.slot)
    reply.renewed = true
  end
end

local function breakers()
  local stored, told = redis.call('HGETALL', BREAKERS), {}
  for i = 1, #stored, 2 do
    local breaker = cjson.decode(stored[i + 1])
    told[#told + 1] = {
      operation = stored[i],
      refusals = breaker.refusals,
      pause = breaker.pause,
      probes = breaker.since and tonumber(breaker.since) + breaker.pause - now or nil,
    }
  end
  return #told > 0 and told or nil
end

local function begin()
  redis.call('HSET', REPLICAS, asked.replica, now)
  read_held()
  heed_reports()
end

local function tell()
  store_held()
  if redis.call('ZCARD', PLACES) == 0 then
    lane.virtual = 0
    redis.call('DEL', FLOWS)
  end
  redis.call('HSET', LANE, 'run', asked.run, 'slots', asked.slots, 'per', asked.per, 'open', lane.open, 'virtual', lane.virtual,
    'seq', lane.seq, 'answers', lane.answers, 'margin', lane.margin, 'good', lane.good, 'refused', lane.refused, 'limited', lane.limited)
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, (key == PLACES or key == HELD) and LIFETIME_OF_PLACES or LIFETIME)
  end
  reply.now = string.format('%.0f', now)
  reply.open = math.max(0, lane.open - now)
  reply.slots = {}
  for i, slot in ipairs(slots) do
    reply.slots[i] = math.max(0, math.min(slot.ends, NEVER) - now)
  end
  reply.waiting = redis.call('ZCARD', PLACES)
  reply.answers, reply.margin, reply.trip, reply.breakers = lane.answers, lane.margin, smallest_trip(), breakers()
  return cjson.encode(reply)
end
