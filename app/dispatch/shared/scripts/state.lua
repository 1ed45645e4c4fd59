-- What all scripts begin with: who asks, what is known of the lane, and of who asks.
-- Times are in microseconds on this server's clock; what goes out is relative to now, so that no other clock matters.

local LANE, REPLICAS, HELD, PLACES, FLOWS, PEERS, TRIPS, BREAKERS = unpack(KEYS)
local asked = cjson.decode(ARGV[1])
local reply = {}

local NEVER = 1e18
local BEAT, LONG_BEAT = 250000, 800000 -- how often a replica asks that waits; when it is known for how long
local STALE, DEAD = 1000000, 5000000 -- for how long it isn't heard of when it isn't waited for; when its places go
local LONGEST_VALID = 500000 -- how long any replica may use a claim
local LIFETIME = 86400000 -- milliseconds; who finds nothing begins cold
local LIFETIME_OF_PLACES, LIFETIME_OF_REPLICAS = 6000, 10000 -- milliseconds; who keeps places asks all the time
local FIRST_MARGIN, LARGEST_MARGIN, GOOD_TO_HALVE = 250000, 1000000, 500

local function number(value, default)
  return tonumber(value or default) or default
end

-- Numbers of any size are kept as text: cjson writes 14 digits.
local function text(value)
  return string.format('%.0f', value)
end

local function fields_of(key)
  local stored, fields = redis.call('HGETALL', key), {}
  for i = 1, #stored, 2 do
    fields[stored[i]] = stored[i + 1]
  end
  return fields
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- Of who asks: when it was heard, its last script's number and last verdict's, and its sends that aren't over, each with its place.
local stored_me = redis.call('HGET', REPLICAS, asked.replica)
local me = stored_me and cjson.decode(stored_me) or { serial = 0, verdict = 0, flying = {} }

if asked.serial <= me.serial then
  -- It was given up by who sent it, and a younger one has run: what it says was true once.
  return cjson.encode({ late = true, now = text(now) })
end
me.serial, me.seen = asked.serial, text(now)

local found = fields_of(LANE)
local has_other_terms = number(found.slots, 0) ~= asked.slots or number(found.per, 0) ~= asked.per
local known_revision = number(found.revision, 0)

if has_other_terms and asked.revision < known_revision and math.abs(now - number(found.heard, 0)) <= DEAD then
  -- Who knows the token as it is now was heard: of two that took each other's terms back the lane would stay cold.
  return cjson.encode({ stale = true, now = text(now) })
end

local lane = {
  revision = has_other_terms and asked.revision or math.max(known_revision, asked.revision),
  heard = now,
  cold_at = number(found.cold_at, 0),
  open = number(found.open, 0),
  virtual = number(found.virtual, 0),
  seq = number(found.seq, 0),
  answers = number(found.answers, 0),
  margin = number(found.margin, FIRST_MARGIN),
  good = number(found.good, 0),
  refused = number(found.refused, 0),
  limited = number(found.limited, 0),
  looked = number(found.looked, -1),
  pruned = number(found.pruned, -1),
  trip = tonumber(found.trip or ''),
}

-- The slots stand beside the rest, under one key, so that they can't be lost alone.
local slots = {}
for i = 1, asked.slots do
  local ends, opened, hold, owner = (found['slot' .. i] or ''):match('^(%S+) (%S+) (%S*) (%S*)$')
  slots[i] = { ends = number(ends, 0), opened = number(opened, 0), hold = hold or '', owner = owner or '' }
end

-- The clock jumped, as who asks noticed a while ago, and the lane hasn't begun cold since.
local function has_times_from_before_a_step()
  return asked.stepped and (lane.cold_at <= now - asked.stepped or lane.cold_at > now)
end

-- A lane whose past isn't known: nothing is sent before all that may have been can't count any more, what is claimed but unsent included.
if found.run ~= asked.run or has_other_terms or has_times_from_before_a_step() then
  for i = 1, asked.slots do
    slots[i] = { ends = 0, opened = 0, hold = '', owner = '' }
  end
  lane.cold_at = now
  lane.open = now + LONGEST_VALID + asked.per + lane.margin
  lane.limited = math.min(lane.limited, now)
  reply.cold = true
end

local function store_lane()
  local fields = { 'run', asked.run, 'slots', asked.slots, 'per', asked.per }
  for name, value in pairs(lane) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  for i, slot in ipairs(slots) do
    fields[#fields + 1] = 'slot' .. i
    fields[#fields + 1] = text(math.ceil(slot.ends)) .. ' ' .. text(slot.opened) .. ' ' .. slot.hold .. ' ' .. slot.owner
  end
  redis.call('HSET', LANE, unpack(fields))
  redis.call('PEXPIRE', LANE, LIFETIME)
end

local function store_me()
  redis.call('HSET', REPLICAS, asked.replica, cjson.encode(me))
  redis.call('PEXPIRE', REPLICAS, LIFETIME_OF_REPLICAS)
end
