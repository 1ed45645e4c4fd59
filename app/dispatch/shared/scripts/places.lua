-- The places. Those of one flow at one replica are interchangeable, so that only their number counts; `held` has it, and what each weighs.

local TOTAL = '' -- how many places all replicas hold
local NEWCOMER = '~' -- comes after all places of the same tag
local total, held

local function read_held()
  local stored = redis.call('HMGET', HELD, TOTAL, asked.replica)
  total, held = number(stored[1], 0), stored[2] and cjson.decode(stored[2]) or {}
  if redis.call('ZCARD', PLACES) ~= total then
    -- Half of it is gone. Each replica finds that it holds nothing, and asks for its places anew.
    redis.call('DEL', PLACES, HELD, FLOWS)
    total, held = 0, {}
  end
end

local function store_held()
  if total == 0 then
    lane.virtual = 0
    redis.call('DEL', HELD, FLOWS)
    return
  end
  if next(held) then
    redis.call('HSET', HELD, TOTAL, total, asked.replica, cjson.encode(held))
  else
    redis.call('HSET', HELD, TOTAL, total)
    redis.call('HDEL', HELD, asked.replica)
  end
  for _, key in ipairs({ HELD, PLACES, FLOWS }) do
    redis.call('PEXPIRE', key, LIFETIME_OF_PLACES)
  end
end

local function count(flow, change)
  total = total + change
  local kept = held[flow] or { count = 0, weight = 1 }
  kept.count = kept.count + change
  held[flow] = kept.count > 0 and kept or nil
end

local function add_place(flow, tag)
  lane.seq = lane.seq + 1
  local place = string.format('%012.0f|%s|%s', lane.seq, asked.replica, flow)
  redis.call('ZADD', PLACES, tag, place)
  count(flow, 1)
  return place
end

-- A turn that was lost gets back the tag that it had, unless the order began anew since.
local function add_lost_place(send)
  if send.flow then
    add_place(send.flow, math.min(send.tag, lane.virtual))
  end
end

local function charge(flow, turns, weight)
  local finish = number(redis.call('HGET', FLOWS, flow), 0)
  redis.call('HSET', FLOWS, flow, math.max(lane.virtual, finish + turns / weight))
end

local function add_places(flow, missing, weight)
  local finish, place = number(redis.call('HGET', FLOWS, flow), 0), nil
  for _ = 1, missing do
    local start = math.max(lane.virtual, finish)
    finish = start + 1 / weight
    place = add_place(flow, start)
  end
  redis.call('HSET', FLOWS, flow, finish)
  reply.ranks = reply.ranks or {}
  reply.ranks[flow] = redis.call('ZRANK', PLACES, place)
end

-- Give up so many places of each flow, the last first; their turns aren't charged.
local function remove_places(surplus)
  local endings, left = {}, 0
  for flow, one in pairs(surplus) do
    endings['|' .. asked.replica .. '|' .. flow] = { flow = flow, count = one.count }
    left = left + one.count
  end
  for _, place in ipairs(left > 0 and redis.call('ZREVRANGE', PLACES, 0, -1) or {}) do
    local one = endings[place:sub(13)]
    if one and one.count > 0 then
      redis.call('ZREM', PLACES, place)
      count(one.flow, -1)
      one.count, left = one.count - 1, left - 1
    end
    if left == 0 then
      break
    end
  end
  for flow, one in pairs(surplus) do
    charge(flow, -one.count, one.weight)
  end
end

-- The places that this replica has beyond those that are asked for: how many of each flow, and what they weigh.
local function find_surplus()
  local surplus = {}
  for flow, kept in pairs(held) do
    surplus[flow] = { count = kept.count, weight = kept.weight }
  end
  for _, want in ipairs(asked.wants) do
    local own = held[want.flow]
    surplus[want.flow] = own and own.count > want.count and { count = own.count - want.count, weight = want.weight } or nil
  end
  return surplus
end

-- A flow that had no more than its share is as one that is new.
local function forget_flows()
  local bucket = math.floor(now / BUCKET)
  if lane.pruned == bucket then
    return
  end
  lane.pruned = bucket
  for flow, finish in pairs(fields_of(FLOWS)) do
    if tonumber(finish) <= lane.virtual then
      redis.call('HDEL', FLOWS, flow)
    end
  end
end

-- How many places come before that of a flow which has none yet. One is taken to find out, and given up at once.
local function before_newcomer()
  if total == 0 then
    return 0
  end
  redis.call('ZADD', PLACES, lane.virtual, NEWCOMER)
  local rank = redis.call('ZRANK', PLACES, NEWCOMER)
  redis.call('ZREM', PLACES, NEWCOMER)
  return rank
end

-- Bring this replica's places to the numbers that are asked for.
local function keep_places()
  forget_flows()
  remove_places(find_surplus())
  for _, want in ipairs(asked.wants) do
    local missing = want.count - (held[want.flow] and held[want.flow].count or 0)
    if missing > 0 then
      add_places(want.flow, missing, want.weight)
    end
    if held[want.flow] then
      held[want.flow].weight = want.weight
    end
  end
end

-- Drop the places of another replica; their turns aren't charged.
local function drop_places(replica)
  for _, place in ipairs(redis.call('ZRANGE', PLACES, 0, -1)) do
    if place:sub(13, 14 + #replica) == '|' .. replica .. '|' then
      redis.call('ZREM', PLACES, place)
      total = total - 1
    end
  end
  local stored = redis.call('HGET', HELD, replica)
  for flow, kept in pairs(stored and cjson.decode(stored) or {}) do
    charge(flow, -kept.count, kept.weight)
  end
  redis.call('HDEL', HELD, replica)
end
