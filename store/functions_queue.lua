-- The queue: a shopper has at most one request that waits and one in flight. Each ends in exactly one outcome.

local MOST_EXPIRED = 1000 -- leases that one claim gives up

local function check_queue(k) -- an error here, before the first write, if a key holds another type
  redis.call('HLEN', k.counts)
  redis.call('XLEN', k.outcomes)
  redis.call('ZCARD', k.wait)
  redis.call('ZCARD', k.parked)
  redis.call('ZCARD', k.lease)
  redis.call('HLEN', k.wait_requests)
  redis.call('HLEN', k.lease_requests)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Requests are kept as `<attempt> <as-of> <run id> <blob>`.
local function parse_request(value)
  local attempt, as_of, run_id, blob_at = string.match(value, '^(%d+) (%d+) (%S+) ()')
  if not attempt then
    fail('a stored request cannot be read')
  end
  return attempt, as_of, run_id, blob_at
end

local function ended(k, kept, outcome, user, run_id)
  redis.call('HINCRBY', k.counts, outcome, 1)
  redis.call('XADD', k.outcomes, 'MAXLEN', '~', kept, '*', 'run', run_id, 'user', user, 'outcome', outcome)
end

local function remove_waiting(k, user)
  redis.call('HDEL', k.wait_requests, user)
  redis.call('ZREM', k.wait, user)
  redis.call('ZREM', k.parked, user)
end

-- Takes the lease away. A newer request that was parked behind it can be claimed from now on.
local function remove_lease(k, user)
  redis.call('HDEL', k.lease_requests, user)
  redis.call('ZREM', k.lease, user)
  local as_of = redis.call('ZSCORE', k.parked, user)
  if as_of then
    redis.call('ZREM', k.parked, user)
    redis.call('ZADD', k.wait, as_of, user)
  end
end

-- Puts a fired request into the shopper's one waiting slot. Returns how many requests were conflated.
local function offer(k, kept, user, run_id, as_of, blob)
  local conflated, leased = 0, redis.call('HGET', k.lease_requests, user)
  if leased and select(3, parse_request(leased)) == run_id then
    return 0
  end
  local waiting = redis.call('HGET', k.wait_requests, user)
  if waiting then
    local _, waiting_as_of, waiting_run = parse_request(waiting)
    if waiting_run == run_id then
      return 0
    end
    conflated = 1
    if tonumber(waiting_as_of) > tonumber(as_of) then
      redis.call('HINCRBY', k.counts, 'fired', 1)
      ended(k, kept, 'conflated', user, run_id)
      return conflated
    end
    ended(k, kept, 'conflated', user, waiting_run)
  end
  redis.call('HINCRBY', k.counts, 'fired', 1)
  redis.call('HSET', k.wait_requests, user, '0 ' .. as_of .. ' ' .. run_id .. ' ' .. blob)
  redis.call('ZADD', leased and k.parked or k.wait, as_of, user)
  return conflated
end

local function refuse_up_to(k, kept, user, erased)
  for _, slot in ipairs({ { k.wait_requests, remove_waiting }, { k.lease_requests, remove_lease } }) do
    local request = redis.call('HGET', slot[1], user)
    if request then
      local _, as_of, run_id = parse_request(request)
      if tonumber(as_of) <= erased then
        slot[2](k, user)
        ended(k, kept, 'refused', user, run_id)
      end
    end
  end
end

-- claim: ARGV stage, epoch, outcomes kept, lease in ms, take, show. First gives up leases that have run out, then takes.
-- Returns 'claimed' and (user, run id, attempt, blob) of each taken; with take 0, the as-ofs of the newest that wait.
local function claim(keys, argv)
  local k, stage, epoch, kept = shard_of(keys), argv[1], argv[2], argv[3]
  natural(kept, 'outcomes kept')
  local lease, take, show = natural(argv[4], 'lease'), natural(argv[5], 'take'), natural(argv[6], 'show')
  local fenced = fence(k, stage, epoch)
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local now = now_ms()
  local expired = redis.call('ZRANGEBYSCORE', k.lease, '-inf', now, 'LIMIT', 0, MOST_EXPIRED)
  for _, user in ipairs(expired) do
    local request = redis.call('HGET', k.lease_requests, user)
    local newer_waits = redis.call('HEXISTS', k.wait_requests, user) == 1
    remove_lease(k, user)
    local _, as_of, run_id = parse_request(request)
    if newer_waits then
      ended(k, kept, 'conflated', user, run_id)
    else
      redis.call('HSET', k.wait_requests, user, request)
      redis.call('ZADD', k.wait, as_of, user)
    end
  end
  local reply = { 'claimed' }
  if take == 0 then
    local newest = redis.call('ZREVRANGE', k.wait, 0, show - 1, 'WITHSCORES')
    for i = 2, show > 0 and #newest or 0, 2 do
      reply[#reply + 1] = newest[i]
    end
    return reply
  end
  for _, user in ipairs(redis.call('ZREVRANGE', k.wait, 0, take - 1)) do
    local request = redis.call('HGET', k.wait_requests, user)
    local attempt, as_of, run_id, blob_at = parse_request(request)
    local blob = string.sub(request, blob_at)
    attempt = string.format('%d', attempt + 1)
    remove_waiting(k, user)
    redis.call('HSET', k.lease_requests, user, attempt .. ' ' .. as_of .. ' ' .. run_id .. ' ' .. blob)
    redis.call('ZADD', k.lease, now + lease, user)
    for _, value in ipairs({ user, run_id, attempt, blob }) do
      reply[#reply + 1] = value
    end
  end
  return reply
end

-- extend: ARGV stage, epoch, lease in ms, then (user, run id). Returns 'extended' and how many leases were still held.
local function extend(keys, argv)
  local k, lease = shard_of(keys), natural(argv[3], 'lease')
  local fenced = fence(k, argv[1], argv[2])
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local until_ms, held = now_ms() + lease, 0
  for i = 4, #argv, 2 do
    local request = redis.call('HGET', k.lease_requests, argv[i])
    if request and select(3, parse_request(request)) == argv[i + 1] then
      redis.call('ZADD', k.lease, until_ms, argv[i])
      held = held + 1
    end
  end
  return { 'extended', held }
end

-- Where a shopper's request of this run is: its remover, or nil.
local function find_request(k, user, run_id)
  local leased, waiting = redis.call('HGET', k.lease_requests, user), redis.call('HGET', k.wait_requests, user)
  if leased and select(3, parse_request(leased)) == run_id then
    return remove_lease
  elseif waiting and select(3, parse_request(waiting)) == run_id then
    return remove_waiting
  end
  return nil
end

-- finish: ARGV stage, epoch, outcomes kept, user, run id, outcome. Returns 'finished' and whether the request was there.
local OUTCOMES = { published = 1, malformed = 1, expired = 1, exhausted = 1, refused = 1 }
local function finish(keys, argv)
  local k, kept, user, run_id, outcome = shard_of(keys), argv[3], argv[4], argv[5], argv[6]
  natural(kept, 'outcomes kept')
  if not OUTCOMES[outcome] then
    fail('finish: no such outcome: ' .. tostring(outcome))
  end
  local fenced = fence(k, argv[1], argv[2])
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local remove = find_request(k, user, run_id)
  if not remove then
    return { 'finished', 0 }
  end
  remove(k, user)
  ended(k, kept, outcome, user, run_id)
  return { 'finished', 1 }
end

redis.register_function('aigq_v1_claim', claim)
redis.register_function('aigq_v1_extend', extend)
redis.register_function('aigq_v1_finish', finish)
