'use strict';
(() => {
  const $ = id => document.getElementById(id);
  const make = (tag, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const LETTERS = 'acdeghjklmpqtyz';  // those that are no key for anything else
  const video = $('video');
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let facts = null;     // of the whole list
  let item = null;      // the one that is looked at, with how it stands in item.now
  let media = null;     // what is played of it, and at what times
  let frame = 0;        // the number of the frame that is shown
  let view = [0, 1];    // seconds that the slider spans
  let all = false;      // whether all of the video is played, and not the segment alone
  let busy = true;      // while an answer, or the next video, is on its way
  let turn = 0;         // of the videos shown: what comes late for an older one is dropped
  let copied = false;   // whether this browser showed that it does not play the file itself
  const done = [];      // {number, path, before, version}: what undo takes back

  const percent = value => value > 0 && value < 0.01 ? '< 1 %' : `${Math.round(100 * value)} %`;
  const time = seconds => {
    const thousandths = Math.round(1000 * seconds);
    const minutes = Math.floor(thousandths / 60000);
    return `${minutes}:${((thousandths % 60000) / 1000).toFixed(3).padStart(6, '0')}`;
  };
  const round = seconds => Math.round(seconds * 1e6) / 1e6;
  const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const say = text => { $('error').hidden = true; put($('said'), text); };
  const fail = text => { $('error').hidden = false; put($('error'), text); };

  async function ask(path, body) {
    const options = body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
    let answer;
    try { answer = await fetch(path, options || {}); } catch {
      throw new Error('The server cannot be reached: is it still running? Nothing was kept of this.');
    }
    let content = {};
    try { content = await answer.json(); } catch { /* not ours */ }
    if (answer.ok) return content;
    const error = new Error(content.error || `the server answered ${answer.status}`);
    error.now = content.now;
    throw error;
  }

  // --- frames and their times: seconds from the video's first frame ----------------------------------

  const timeOf = number => {
    if (number >= media.frames) return media.duration;
    return media.times ? media.times[Math.max(0, number)] : Math.max(0, number) / media.fps;
  };
  const frameAt = seconds => {  // the one that is shown then; a list's times may be rounded
    let low = 0, high = media.frames - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (timeOf(middle) <= seconds + 5e-4) low = middle; else high = middle - 1;
    }
    return low;
  };
  const part = () => {
    const now = item.now;
    return now.start === null ? [0, media.duration] : [now.start, Math.min(now.end, media.duration)];
  };
  const bounds = () => all ? [0, media.duration] : part();

  function seek(number) {  // into the middle of the frame's time, where no rounding matters
    number = Math.max(0, Math.min(media.frames - 1, number));
    const wanted = (timeOf(number) + timeOf(number + 1)) / 2;
    if (timeOf(number) < media.from - 1e-4 || wanted >= media.to) { play(timeOf(number), number, !video.paused); return; }
    frame = number;
    video.currentTime = wanted - media.from;
    drawTime();
  }

  function step(frames) {
    if (!media) return;
    video.pause();
    seek(frame + frames);
  }

  const told = 'requestVideoFrameCallback' in video;  // which frame is on the screen

  function noteFrame(_, { mediaTime }) {
    video.requestVideoFrameCallback(noteFrame);
    if (!media || video.seeking) return;
    const seconds = mediaTime + media.from, found = frameAt(seconds);
    const next = timeOf(found + 1) - seconds < seconds - timeOf(found) && found + 1 < media.frames;
    frame = next ? found + 1 : found;
    drawTime();
  }

  function follow() {  // while it plays
    if (!media || video.readyState < 2) return;
    const [start, end] = bounds(), seconds = video.currentTime + media.from;
    if (!told && !video.seeking) frame = frameAt(seconds);
    if (!video.paused && !video.seeking && (seconds >= end - 1e-3 || seconds < start - 0.05)) seek(frameAt(start));
    drawTime();
  }

  function tick() {
    follow();
    if (!video.paused) requestAnimationFrame(tick);
  }

  async function play(at, number, going) {  // at: seconds around which a part of a long video is got
    const mine = turn, again = number !== undefined;
    const query = [...(at === undefined ? [] : [`at=${at}`]), ...(copied ? ['copy=1'] : [])].join('&');
    put($('waiting'), 'Getting the video');
    $('broken').hidden = true;
    let found;
    try { found = await ask(`video/${item.number}${query && `?${query}`}`); } catch (error) {
      if (mine !== turn) return;
      put($('waiting'), '');
      broken(error.message);
      return;
    }
    if (mine !== turn) return;
    if (found.unreadable) {
      put($('waiting'), '');
      broken(`cannot be read: ${found.unreadable}`);
      return;
    }
    media = found;
    $('untimed').hidden = !media.untimed;
    $('cut').hidden = Boolean(media.untimed);
    const retry = () => {  // a browser without this codec: a copy
      if (mine !== turn || media !== found) return;
      if (found.copy) { put($('waiting'), ''); broken('This browser cannot play it.'); return; }
      copied = true;
      play(at, number, going);
    };
    video.onerror = retry;
    video.onloadeddata = () => {
      if (mine !== turn || media !== found) return;
      if (!video.videoWidth) { retry(); return; }
      put($('waiting'), '');
      seek(again ? number : frameAt(bounds()[0]));
      video.playbackRate = Number($('speed').value);
      if (going || (!calm.matches && !again)) video.play().catch(() => {});
      drawView();
      ahead();
    };
    video.src = found.source;
    drawView();
  }

  function broken(text) {
    media = null;
    $('broken').hidden = false;
    put($('broken'), text);
  }

  function ahead() {  // a copy of the next one is made meanwhile
    const next = following(item.number);
    if (next >= 0 && next !== item.number) fetch(`video/${next}`).catch(() => {});
  }

  // --- from video to video ---------------------------------------------------------------------------

  const following = number => {  // the next one that nobody answered, from there on and then from the first
    const found = facts.statuses.indexOf('o', number + 1);
    return found >= 0 ? found : facts.statuses.indexOf('o');
  };

  async function show(number, quiet) {
    busy = true;
    turn += 1;
    const mine = turn;
    media = null;
    video.onerror = video.onloadeddata = null;
    video.removeAttribute('src');  // or its last picture would stand there for the next one
    video.load();
    try {
      const found = await ask(`item/${number}`);
      if (mine !== turn) return;
      item = found;
      facts.classes = item.classes;
      mark(number, item.now.status);
      all = false;
      draw();
      if (!quiet) $('path').focus({ preventScroll: true });
      history.replaceState(null, '', `#${number + 1}`);
      busy = false;
      copied = false;
      play();
    } catch (error) {
      busy = false;
      fail(error.message);
    }
  }

  const mark = (number, status) => {
    const letter = { open: 'o', done: 'd', skipped: 's', dropped: 'x' }[status];
    facts.statuses = facts.statuses.slice(0, number) + letter + facts.statuses.slice(number + 1);
  };

  async function send(change, words, onward) {
    if (busy || !item) return;
    busy = true;
    const { number } = item, before = { ...item.now };
    try {
      const answer = await ask('answer', { number, ...item.now, ...change });
      item.now = answer.now;
      facts.classes = answer.classes;
      mark(number, item.now.status);
      done.push({ number, path: item.path, before, version: item.now.version });
      $('undo').disabled = false;
      say(`Saved: ${words}. ${item.path}`);
      busy = false;
      if (onward) go(following(number), true); else draw();
    } catch (error) {
      busy = false;
      if (error.now) { item.now = error.now; mark(number, item.now.status); draw(); drawView(); }
      fail(error.message);
    }
  }

  async function undo() {
    const last = done.at(-1);
    if (busy || !last) return;
    busy = true;
    try {
      const answer = await ask('answer', { number: last.number, ...last.before, version: last.version });
      done.pop();
      $('undo').disabled = !done.length;
      for (const one of done) if (one.number === last.number) one.version = answer.now.version;
      await show(last.number);
      say(`Undone. ${item.path}`);
    } catch (error) {
      busy = false;
      if (error.now) {  // another window has answered since: there is nothing to take back
        done.pop();
        $('undo').disabled = !done.length;
        if (item.number === last.number) { item.now = error.now; draw(); drawView(); }
      }
      say('');
      fail(`${last.path}: ${error.message}`);
    }
  }

  function go(number, answered) {
    if (busy) return;
    if (number < 0 || number >= facts.statuses.length) {
      if (answered) {
        draw();
        say(`All are answered: they are in ${facts.output}.`);
      } else say(number < 0 ? 'This is the first one.' : 'This is the last one.');
      return;
    }
    if (!answered) say('');
    show(number);
  }

  // --- answers ---------------------------------------------------------------------------------------

  function choose(name) {
    if (facts.several) {
      const now = new Set(item.now.labels || []);
      if (!now.delete(name)) now.add(name);
      send({ labels: [...now] }, [...now].join(', ') || 'none of the classes', false);
    } else send({ labels: [name], status: 'done' }, name, true);
  }

  function accept() {
    const { labels } = item.now;
    if (labels === null && facts.several) send({ labels: [], status: 'done' }, 'none of the classes', true);
    else if (labels === null) say('It has no label yet: choose a class.');
    else send({ status: 'done' }, labels.join(', ') || 'none of the classes', true);
  }

  function cut(start, end, shown) {
    if (!media || media.untimed) return;
    [start, end] = [round(start), round(end)];
    if (start >= end) { fail('A segment cannot end before it starts.'); return; }
    const whole = start <= 0 && end >= round(media.duration);
    video.pause();
    const change = whole ? { start: null, end: null } : { start, end };
    send(change, whole ? 'the whole video' : `from ${time(start)} to ${time(end)}`, false).then(() => {
      if (shown !== undefined && media) seek(shown);
      drawView();
    });
  }

  const startAt = number => {
    const [, end] = part(), start = timeOf(number);
    cut(start, start < end ? end : media.duration, number);
  };
  const endAt = number => {  // with this frame as the last one
    const [start] = part(), end = timeOf(number + 1);
    cut(start < end ? start : 0, end, number);
  };
  const lastFrame = () => frameAt(part()[1] - 2e-3);
  const nudge = (which, frames) => {
    if (!media) return;
    if (which === 'start') startAt(Math.max(0, frameAt(part()[0]) + frames));
    else endAt(Math.min(media.frames - 1, Math.max(frameAt(part()[0]), lastFrame() + frames)));
  };

  async function add(name) {
    while (busy) await new Promise(later => setTimeout(later, 20));  // for the video that is shown
    try {
      const answer = await ask('class', { name });
      facts.classes = answer.classes;
      $('new').value = '';
      $('filter').value = '';
      $('path').focus({ preventScroll: true });
      choose(answer.name);
    } catch (error) { fail(error.message); }
  }

  // --- what is seen ----------------------------------------------------------------------------------

  const keyOf = place => place < 9 ? String(place + 1) : LETTERS[place - 9] || '';

  function draw() {
    const { now } = item, count = facts.statuses.length;
    const answered = count - facts.statuses.split('o').length + 1;
    put($('place'), `${item.number + 1} of ${count}; ${answered} answered`);
    $('progress').value = count ? answered / count : 0;
    put($('path'), item.path);
    put($('label'), now.labels === null ? 'none yet' : now.labels.join(', ') || 'none of the classes');
    const words = { open: '', done: 'answered', skipped: 'skipped', dropped: 'left out' }[now.status];
    const before = item.labels && now.labels && item.labels.join() !== now.labels.join() ? `, was ${item.labels.join(', ') || 'none'}` : '';
    put($('state'), words + before);
    const said = item.predicted.length > 0;
    $('model-title').hidden = $('model').hidden = !said && item.label_probability === null;
    const other = said && now.labels !== null && item.predicted.join() !== now.labels.join();
    const sure = item.probability === null ? '' : ` ${percent(item.probability)}`;
    const own = item.label_probability === null || (said && item.labels && item.predicted.join() === item.labels.join())
      ? '' : `${said ? '; ' : ''}${item.labels ? item.labels.join(', ') : 'label'} ${percent(item.label_probability)}`;
    put($('model'), `${item.predicted.join(', ')}${said ? sure : ''}${own}`);
    $('model').classList.toggle('other', other);
    $('reason-title').hidden = $('reason').hidden = !item.reason;
    put($('reason'), item.reason);
    drawClasses();
  }

  function drawClasses() {
    const text = $('filter').value.trim().toLowerCase();
    $('search').hidden = $('find-key').hidden = facts.classes.length <= 9;
    const labels = item.now.labels || [];
    const shown = facts.classes.map((name, place) => [name, place]).filter(([name]) => name.toLowerCase().includes(text));
    $('none').hidden = shown.length > 0 || !text;
    $('classes').replaceChildren(...shown.map(([name, place]) => {
      const button = make('button'), key = keyOf(place);
      button.type = 'button';
      button.append(make('span', name));
      if (key) { button.prepend(make('kbd', key)); button.setAttribute('aria-keyshortcuts', key); }
      button.setAttribute('aria-pressed', String(labels.includes(name)));
      button.onclick = () => { choose(name); };
      return button;
    }));
  }

  function drawView() {
    if (!media) return;
    const [start, end] = part();
    const pad = Math.max(5, end - start);
    view = all ? [0, media.duration] : [Math.max(0, start - pad), Math.min(media.duration, end + pad)];
    $('seek').min = view[0];
    $('seek').max = view[1];
    const span = view[1] - view[0] || 1, width = $('track').clientWidth - 20;
    const left = (Math.max(start, view[0]) - view[0]) / span, right = (Math.min(end, view[1]) - view[0]) / span;
    $('part').style.left = `${10 + left * width}px`;
    $('part').style.width = `${(right - left) * width}px`;
    put($('start'), time(start));
    put($('end'), time(end));
    $('whole').disabled = item.now.start === null;
    $('all').hidden = item.now.start === null;
    $('all').setAttribute('aria-pressed', String(all));
    drawTime();
  }

  function drawTime() {
    if (!media) return;
    const seconds = timeOf(frame), text = time(seconds);
    put($('clock'), `${text}, frame ${frame + 1} of ${media.frames}`);
    if (document.activeElement !== $('seek') || video.paused) $('seek').value = seconds;
    $('seek').setAttribute('aria-valuetext', text);
    put($('play-text'), video.paused ? 'Play' : 'Pause');
  }

  // --- what the user does ------------------------------------------------------------------------------

  const toggle = () => {
    if (!media) return;
    if (video.paused) video.play().catch(() => {}); else video.pause();
  };
  const jump = seconds => { if (media) seek(frameAt(Math.max(0, timeOf(frame) + seconds))); };
  const showAll = () => { if (item.now.start !== null) { all = !all; drawView(); } };
  const actions = {
    Enter: accept, ' ': toggle, ',': () => step(-1), '.': () => step(1),
    ArrowLeft: () => jump(-1), ArrowRight: () => jump(1),
    '[': () => media && startAt(frame), i: () => media && startAt(frame),
    ']': () => media && endAt(frame), o: () => media && endAt(frame),
    w: () => media && cut(0, media.duration), v: showAll,
    r: () => { if (media) { seek(frameAt(part()[0])); video.play().catch(() => {}); } },
    s: () => send({ status: 'skipped' }, 'skipped', true), x: () => send({ status: 'dropped' }, 'left out', true),
    u: undo, b: () => go(item.number - 1), n: () => go(item.number + 1),
    '/': () => $('search').hidden || $('filter').focus(), f: () => $('search').hidden || $('filter').focus(),
    '+': () => $('new').focus(), '?': () => $('help').showModal(),
  };

  addEventListener('keydown', event => {
    const at = event.target, typed = at.matches('input:not([type=range]):not([type=checkbox]), select, textarea');
    if (event.isComposing || $('help').open || !item) return;
    if (typed) {
      if (event.key === 'Escape') $('path').focus({ preventScroll: true });
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === 'z') { event.preventDefault(); undo(); return; }
    if (event.ctrlKey || event.metaKey || (event.altKey && event.key.length > 1)) return;
    if (at.matches('button') && (event.key === 'Enter' || event.key === ' ')) return;  // it is pressed
    if (at.matches('[type=range]') && event.key.startsWith('Arrow')) return;
    if (event.key.length === 1 && !$('keys').checked && event.key !== ' ') return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const place = facts.classes.findIndex((_, each) => keyOf(each) === key);
    const action = place >= 0 && key ? () => choose(facts.classes[place]) : actions[key];
    if (!action || (event.repeat && !/^(Arrow|,|\.)/.test(key))) return;  // a held key labels once
    event.preventDefault();
    action();
  });

  const buttons = {
    play: ' ', 'back-frame': ',', 'next-frame': '.', all: 'v', 'start-here': '[', 'end-here': ']', whole: 'w',
    back: 'b', next: 'n', undo: 'u', drop: 'x', skip: 's', accept: 'Enter', 'help-open': '?',
  };
  for (const [id, key] of Object.entries(buttons)) $(id).onclick = () => { if (item) actions[key](); };
  $('start-less').onclick = () => nudge('start', -1);
  $('start-more').onclick = () => nudge('start', 1);
  $('end-less').onclick = () => nudge('end', -1);
  $('end-more').onclick = () => nudge('end', 1);
  // After a click the next key is meant for the video, and not for what was clicked.
  addEventListener('click', event => {
    if (event.detail && event.target.closest('main button')) $('path').focus({ preventScroll: true });
  });
  $('filter').oninput = drawClasses;
  $('filter').onkeydown = event => {
    const first = $('classes').querySelector('button');
    if (event.key !== 'Enter' || !first || event.isComposing) return;
    event.preventDefault();
    $('filter').value = '';
    first.click();
    $('path').focus({ preventScroll: true });
  };
  $('add').onsubmit = event => { event.preventDefault(); if (item) add($('new').value); };
  $('seek').oninput = () => { if (media) { video.pause(); seek(frameAt(Number($('seek').value))); } };
  $('speed').onchange = () => { video.playbackRate = Number($('speed').value); };
  if (told) video.requestVideoFrameCallback(noteFrame);
  video.onclick = toggle;
  video.onplay = tick;
  video.onpause = video.onseeked = video.ontimeupdate = follow;
  video.onended = () => {  // of a copy of a part, which goes on in another one, or begin anew
    if (!media) return;
    if (media.to < bounds()[1] - 2e-3) { play(media.to, frameAt(media.to), true); return; }
    seek(frameAt(bounds()[0]));
    video.play().catch(() => {});
  };
  addEventListener('resize', drawView);
  addEventListener('visibilitychange', async () => {  // another window may have answered meanwhile
    if (document.hidden || busy || !item) return;
    try {
      const found = await ask(`item/${item.number}`);
      if (found.number === item.number && found.now.version !== item.now.version) { item.now = found.now; mark(item.number, item.now.status); draw(); drawView(); }
      facts.statuses = (await ask('facts')).statuses;
    } catch { /* said with the next answer */ }
  });

  // The cookie has it now: it need not stay in the address, the history, or on the screen.
  if (location.search) history.replaceState(null, '', location.pathname + location.hash);

  ask('facts').then(found => {
    facts = found;
    put($('name'), facts.name);
    const wanted = Number(location.hash.slice(1)) - 1;
    if (wanted >= 0 && wanted < facts.statuses.length) show(wanted, true);
    else show(Math.max(0, following(-1)), true);
  }).catch(error => fail(error.message));
})();
