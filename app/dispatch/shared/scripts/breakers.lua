-- The breakers, as app/dispatch/breaker.py has them, over all replicas: one real call at one of them probes.

local TO_OPEN, FIRST_PAUSE, LONGEST_PAUSE = 3, 60000000, 3600000000
local breakers = {}

local function read_breakers()
  for operation, stored in pairs(fields_of(BREAKERS)) do
    breakers[operation] = cjson.decode(stored)
  end
end

local function store_breaker(operation)
  redis.call('HSET', BREAKERS, operation, cjson.encode(breakers[operation]))
  redis.call('PEXPIRE', BREAKERS, LIFETIME)
end

local function close_breaker(operation)
  if breakers[operation] then
    breakers[operation] = nil
    redis.call('HDEL', BREAKERS, operation)
  end
end

local function note_refusal(verdict)
  local breaker = breakers[verdict.operation] or { refusals = 0, pause = FIRST_PAUSE }
  breakers[verdict.operation] = breaker
  breaker.refusals = breaker.refusals + 1
  if verdict.probe then
    breaker.pause, breaker.prober = math.min(2 * breaker.pause, LONGEST_PAUSE), nil
  end
  if verdict.probe or (not breaker.since and breaker.refusals >= TO_OPEN) then
    breaker.since = text(now)
  end
  store_breaker(verdict.operation)
end

-- Each is heeded once, however often it is told.
local function heed_verdicts()
  if asked.resumed then
    redis.call('DEL', BREAKERS)
    breakers = {}
  end
  for _, verdict in ipairs(asked.verdicts) do
    if verdict.number > me.verdict then
      me.verdict = verdict.number
      if verdict.accepted then
        close_breaker(verdict.operation)
      else
        note_refusal(verdict)
      end
    end
  end
end

local function is_heard_of(replica)
  local stored = redis.call('HGET', REPLICAS, replica)
  return stored and now - tonumber(cjson.decode(stored).seen) <= DEAD
end

local function still_probes(replica, wanted)
  if replica == asked.replica then
    return wanted
  end
  return replica and is_heard_of(replica)
end

-- Who has a call that would probe may let it go, if it is time and no other's does.
local function grant_probes()
  local wanted = {}
  for _, operation in ipairs(asked.probes) do
    wanted[operation] = true
  end
  for operation, breaker in pairs(breakers) do
    local before = breaker.prober
    if not still_probes(before, wanted[operation]) then
      local due = now >= (tonumber(breaker.since) or NEVER) + breaker.pause
      breaker.prober = wanted[operation] and due and asked.replica or nil
    end
    if breaker.prober ~= before then
      store_breaker(operation)
    end
  end
end

local function told_breakers()
  local told = {}
  for operation, breaker in pairs(breakers) do
    told[#told + 1] = {
      operation = operation,
      refusals = breaker.refusals,
      pause = breaker.pause,
      probes = breaker.since and tonumber(breaker.since) + breaker.pause - now or nil,
      probing = breaker.prober and (breaker.prober == asked.replica and 'here' or 'elsewhere') or nil,
    }
  end
  return #told > 0 and told or nil
end
