-- What a person asks for: requests beside those that the fold fires, and lists from elsewhere.

-- want: KEYS shard, then (runs, tombstone) of each shopper. ARGV stage, epoch, outcomes kept, low priority ('1' or '0'), then
-- (user, run id, as-of, blob). No shopper twice. Returns 'wanted' and for each: 'requested'; 'waits' (a request of this
-- shopper is on its way already), 'listed' (a list of this run or as new as this is stored), 'refused' (erased since).
register('want', function(k, argv, keys)
  local kept, low, answers = argv[3], argv[4], { 'wanted' }
  natural(kept, 'outcomes kept')
  if (low ~= '0' and low ~= '1') or (#argv - 4) % 4 ~= 0 or #keys ~= 10 + (#argv - 4) / 2 then
    fail('want: keys and arguments do not match, or the priority is not 0 or 1')
  end
  for i = 5, #argv, 4 do
    local user, run_id, as_of = argv[i], word(argv[i + 1], 'run id'), natural(argv[i + 2], 'as-of')
    local at = 11 + (i - 5) / 2
    local waiting, leased = requests_of(k, user)
    local answer = (waiting or leased) and 'waits' or 'requested'
    for _, run in ipairs(parse_runs(redis.call('GET', keys[at]) or '')) do
      if run.as_of >= as_of or run.run_id == run_id then
        answer = 'listed'
      end
    end
    if natural(redis.call('GET', keys[at + 1]) or '0', 'stored tombstone') >= as_of then
      answer = 'refused'
    end
    answers[#answers + 1] = answer
  end
  for i = 5, #argv, 4 do
    if answers[2 + (i - 5) / 4] == 'requested' then
      local request = {
        attempt = '0', listed = '', low = low == '1' and '~' or '', as_of = argv[i + 2], run_id = argv[i + 1], blob = argv[i + 3],
      }
      redis.call('HINCRBY', k.counts, 'fired', 1)
      write_request(k.wait_requests, argv[i], request)
      redis.call('ZADD', wait_of(k, request), request.as_of, argv[i])
    end
  end
  return answers
end)

-- restore: KEYS shard, runs, tombstone. ARGV stage, epoch, outcomes kept, user, runs kept, TTL, n, then n of (as-of, promotion,
-- run id, blob), then run ids: lists made before, of another namespace or an archive, take their places among those that are
-- stored; those that another one has replaced (the run ids at the end) take none and go. A waiting request that they answer ends.
-- Returns 'restored' and how many of them are stored now.
register('restore', function(k, argv, keys)
  local kept, user, runs_kept, ttl = argv[3], argv[4], natural(argv[5], 'runs kept'), natural(argv[6], 'TTL')
  local past = 8 + 4 * natural(argv[7], 'number of runs')
  natural(kept, 'outcomes kept')
  if runs_kept < 1 or ttl < 1 or #argv < past - 1 then
    fail('restore: runs kept or TTL is 0, or a run is not whole')
  end
  local replaced, restored, runs, gone = {}, {}, {}, false
  for i = past, #argv do
    replaced[argv[i]] = true
  end
  for _, run in ipairs(parse_runs(redis.call('GET', keys[11]) or '')) do
    if replaced[run.run_id] then
      gone = true
    else
      runs[#runs + 1] = run
    end
  end
  local erased = natural(redis.call('GET', keys[12]) or '0', 'stored tombstone')
  for i = 8, past - 1, 4 do
    local as_of, promotion, run_id = natural(argv[i], 'as-of'), natural(argv[i + 1], 'promotion'), word(argv[i + 2], 'run id')
    local place, taken = 1, as_of <= erased or replaced[run_id]
    for at = #runs, 1, -1 do
      if runs[at].as_of == as_of and not taken then
        taken = runs[at].promotion >= promotion
        if not taken then
          table.remove(runs, at)
        end
      end
    end
    for at, run in ipairs(runs) do
      place = run.as_of > as_of and at + 1 or place
    end
    if not taken then
      local header = argv[i] .. ' ' .. argv[i + 1] .. ' ' .. run_id .. ' ' .. #argv[i + 3] .. ' '
      table.insert(runs, place, { as_of = as_of, promotion = promotion, run_id = run_id, whole = header .. argv[i + 3] })
      restored[run_id] = true
    end
  end
  local waiting = requests_of(k, user)
  local held, stored = {}, 0
  for i = 1, math.min(#runs, runs_kept) do
    held[runs[i].run_id] = true
    stored = stored + (restored[runs[i].run_id] and 1 or 0)
  end
  if #runs == 0 then
    redis.call('DEL', keys[11])
  elseif stored > 0 or gone then
    redis.call('SET', keys[11], runs_value(runs, runs_kept, {}), 'PX', argv[6])
  end
  if waiting and runs[1] and runs[1].as_of >= tonumber(waiting.as_of) then
    waiting.remove(k, user)
    ended(k, kept, held[waiting.run_id] and 'published' or 'conflated', user, waiting)
  end
  return { 'restored', stored }
end)

-- erase: KEYS shard, tombstone, runs. ARGV stage, epoch, outcomes kept, user, erased at, TTL of the tombstone, TTL of runs: an
-- erasure that another namespace knows of. Lists and requests from before it go.
register('erase', function(k, argv, keys)
  local kept, user, tombstone = argv[3], argv[4], keys[11]
  natural(kept, 'outcomes kept')
  local erased = math.max(natural(argv[5], 'erased at'), natural(redis.call('GET', tombstone) or '0', 'stored tombstone'))
  if natural(argv[6], 'TTL') < 1 or natural(argv[7], 'TTL') < 1 then
    fail('erase: a TTL is 0')
  end
  local runs, before = parse_runs(redis.call('GET', keys[12]) or ''), {}
  for _, run in ipairs(runs) do
    before[run.run_id] = run.as_of <= erased
  end
  local value = runs_value(runs, #runs, before)
  redis.call('SET', tombstone, string.format('%.0f', erased), 'PX', argv[6])
  if value == '' then
    redis.call('DEL', keys[12])
  else
    redis.call('SET', keys[12], value, 'PX', argv[7])
  end
  refuse_up_to(k, kept, user, erased)
  return { 'erased' }
end)
