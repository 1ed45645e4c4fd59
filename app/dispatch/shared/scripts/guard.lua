-- The guard, as app/dispatch/guard.py has it, of all replicas' sends.

local NO_WEIGHT, LARGEST_SHARE = 10, 0.9
local BUCKET, BUCKETS, MOST_PEERS = 10000000, 31, 64

local function share()
  if asked.proven or lane.answers <= NO_WEIGHT then
    return 0
  end
  return LARGEST_SHARE * (1 - math.sqrt(NO_WEIGHT / lane.answers))
end

-- It is looked for once in each bucket of time, and known in between.
local function smallest_trip()
  local bucket = math.floor(now / BUCKET)
  if lane.looked == bucket then
    return lane.trip
  end
  lane.looked, lane.trip = bucket, nil
  redis.call('HDEL', LANE, 'trip')
  for at, trip in pairs(fields_of(TRIPS)) do
    if tonumber(at) <= bucket - BUCKETS then
      redis.call('HDEL', TRIPS, at)
    else
      lane.trip = math.min(lane.trip or NEVER, tonumber(trip))
    end
  end
  return lane.trip
end

local function note_trip(trip)
  lane.trip = math.min(smallest_trip() or NEVER, trip)
  local bucket = text(lane.looked)
  local least = redis.call('HGET', TRIPS, bucket)
  if not least or trip < tonumber(least) then
    redis.call('HSET', TRIPS, bucket, trip)
    redis.call('PEXPIRE', TRIPS, LIFETIME)
  end
end

local function note_peer(peer)
  if redis.call('ZADD', PEERS, 'NX', now, peer) == 1 then
    lane.answers = 0
    redis.call('ZREMRANGEBYRANK', PEERS, 0, -1 - MOST_PEERS)
  end
  redis.call('PEXPIRE', PEERS, LIFETIME)
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

-- A 429 though the rule was kept. What was under way already when another came proves nothing new.
local function note_limit(released)
  if released <= lane.limited then
    return
  end
  lane.refused = share() == 0 and lane.refused + 1 or 0
  lane.answers, lane.good, lane.limited = 0, 0, now
  lane.margin = math.min(2 * lane.margin, LARGEST_MARGIN)
  reply.stranger = lane.refused > 1
end
