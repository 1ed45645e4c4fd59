-- The turn: whose place is first, and which slot it gets.

local GRACE, MOST_WAITED_FOR = 50000, 3 -- how long a slot stays for each of those who stand before the one that asks, and for how many
local PAGE = 64

local function drop_replica(replica)
  drop_places(replica)
  redis.call('HDEL', REPLICAS, replica)
end

-- The replicas that are heard of, with how many sends each has in flight; the places of the dead are dropped.
local function look_around()
  local others = { [asked.replica] = me }
  for replica, stored in pairs(fields_of(REPLICAS)) do
    if replica ~= asked.replica then
      local other = cjson.decode(stored)
      local silent = now - tonumber(other.seen)
      if silent > DEAD then
        drop_replica(replica)
      else
        other.waited_for = silent <= STALE
        others[replica] = other
        if silent < 0 then
          -- The clock was set back: it counts from now.
          other.seen = text(now)
          redis.call('HSET', REPLICAS, replica, cjson.encode(other))
        end
      end
    end
  end
  return others
end

-- Slots of the dead, which would never end.
local function free_slots_of_the_dead(others)
  for _, slot in ipairs(slots) do
    if slot.ends == NEVER and not others[slot.owner] then
      slot.ends = now + asked.per + lane.margin
    end
  end
end

local function in_flight(others)
  local sends = 0
  for _, other in pairs(others) do
    for _ in pairs(other.flying) do
      sends = sends + 1
    end
  end
  return sends
end

-- When to ask again at the latest. While a send is under way its answer may open its slot sooner than is known now.
local function longest_wait(others)
  for _, slot in ipairs(slots) do
    local owner = others[slot.owner]
    if owner and owner.flying[slot.hold] then
      return BEAT
    end
  end
  return LONG_BEAT
end

local function opens_at(slot)
  return math.max(slot.ends, lane.open)
end

local function by_opening()
  local order = { unpack(slots) }
  table.sort(order, function(one, other)
    return one.ends < other.ends
  end)
  return order
end

-- The first place of this replica, and how many of replicas that are waited for stand before it. Unless nobody is waited for any more, who
-- has many before it need not know its own.
local function first_place(others, overdue)
  local from, before = 0, 0
  while from < total and (overdue or before < math.max(MOST_WAITED_FOR, #slots)) do
    local places = redis.call('ZRANGE', PLACES, from, from + PAGE - 1, 'WITHSCORES')
    for i = 1, #places, 2 do
      local replica, flow = places[i]:match('^%d+|([^|]*)|(.*)$')
      if replica == asked.replica then
        return { name = places[i], flow = flow, tag = tonumber(places[i + 1]) }, before
      elseif others[replica] and others[replica].waited_for then
        before = before + 1
      end
    end
    from = from + PAGE
  end
  return nil, before
end

local function expiry()
  return asked.proven and NEVER or now + asked.valid + asked.per + lane.margin
end

local function give(slot, place)
  local opens = math.max(opens_at(slot), now)
  redis.call('ZREM', PLACES, place.name)
  count(place.flow, -1)
  lane.virtual = math.max(lane.virtual, place.tag)
  slot.hold, slot.owner, slot.opened, slot.ends = asked.id, asked.replica, opens, expiry()
  me.flying[asked.id] = { flow = place.flow, tag = place.tag }
  for i, one in ipairs(slots) do
    if one == slot then
      reply.grant = { slot = i, opens = opens - now, flow = place.flow }
    end
  end
end

-- Give the slot whose turn this replica's first place has, or say when to ask again.
local function take_turn(others)
  free_slots_of_the_dead(others)
  if not next(held) or in_flight(others) >= asked.in_flight then
    reply.wait = BEAT
    return
  end
  local order = by_opening()
  local opens = opens_at(order[1])
  local place, before = first_place(others, opens + GRACE * MOST_WAITED_FOR <= now)
  local wait = opens + GRACE * math.min(before, MOST_WAITED_FOR) - now
  if place and before < #slots then
    local early = opens_at(order[before + 1]) - asked.ahead - now
    if early <= 0 then
      give(order[before + 1], place)
      return
    end
    wait = math.min(wait, early)
  end
  if place and wait <= 0 then
    give(order[1], place)
    return
  end
  reply.wait = math.min(wait, longest_wait(others))
end

-- A claim that is older than it may be used is used on only if its slot is nobody else's, and nothing has come between.
local function renew()
  local slot = hold_of(asked.renew)
  if slot and lane.open <= now then
    slot.ends = expiry()
    reply.renewed = true
  end
end
