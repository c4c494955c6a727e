'use strict';
(() => {
  const $ = id => document.getElementById(id);
  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const video = $('video');
  const videos = [];  // in the order in which they were given
  let shown = null;   // the one that is looked at
  let facts = null;   // what the server says of itself
  let pressed = 0;    // a time chosen in a video that does not play

  const percent = value => value > 0 && value < 0.01 ? '< 1 %' : `${Math.round(100 * value)} %`;
  const time = seconds => {
    const tenths = Math.round(10 * seconds);
    const minutes = Math.floor(tenths / 600);
    const rest = ((tenths % 600) / 10).toFixed(1);
    return `${minutes}:${rest.padStart(4, '0')}`;
  };
  const paint = (element, name) => {  // colours far from each other, whatever the number of classes
    const place = facts ? facts.classes.indexOf(name) : 0;
    element.style.setProperty('--hue', String((205 + 137.508 * Math.max(0, place)) % 360));
    element.style.setProperty('--chroma', place < 0 ? '0' : '');  // grey: unknown is no class
  };

  // --- the videos and their way through the server -----------------------------------------------

  function add(files) {
    const given = [...files].map(file => ({
      file, url: URL.createObjectURL(file), state: 'waiting', part: 0, ahead: 0, playable: true,
      duration: 0, prediction: null, top: null, predictions: null, notes: [], segments: null, error: null, again: false, request: null,
    }));
    if (!given.length) return;
    videos.push(...given);
    document.body.classList.add('busy');
    show(given[0]);
    next();
  }

  function next() {
    if (!facts || videos.some(one => one.request)) return;
    const one = videos.find(each => each.state === 'waiting');
    if (one) send(one);
  }

  function fail(one, text, again) {
    one.state = 'failed';
    one.error = text;
    one.again = again;
  }

  function send(one) {
    if (one.file.size > facts.max_bytes) {
      fail(one, `larger than the ${facts.max_bytes / 1e6} MB taken here: give a smaller video`, false);
      changed(one);
      next();
      return;
    }
    const request = one.request = new XMLHttpRequest();
    let read = 0;
    const readLines = () => {
      const lines = request.responseText.slice(read).split('\n');
      read += request.responseText.slice(read).length - lines.pop().length;
      for (const line of lines) if (line) take(one, JSON.parse(line));
      changed(one);
    };
    one.state = 'sending';
    one.part = 0;
    request.open('POST', 'predict');
    request.setRequestHeader('Accept', 'application/x-ndjson');
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.upload.onprogress = event => {
      one.part = event.total ? event.loaded / event.total : 0;
      changed(one);
    };
    request.upload.onload = () => {
      if (one.state === 'sending') [one.state, one.part] = ['checking', 0];
      changed(one);
    };
    request.onprogress = () => { if (request.status === 200) readLines(); };
    request.onload = () => {
      if (request.status === 200) {
        readLines();
        if (one.segments) one.state = 'done';
        else if (one.state !== 'failed') fail(one, 'the server broke off: try again', true);
      } else {
        let text = `the server answered ${request.status}`;
        try { text = JSON.parse(request.responseText).error; } catch { /* not ours: the status */ }
        fail(one, text, true);
      }
    };
    request.onerror = () => fail(one, 'the server cannot be reached, or broke off: is it still running?', true);
    request.onabort = () => fail(one, 'cancelled', true);
    request.onloadend = () => {
      one.request = null;
      changed(one);
      next();
    };
    request.send(one.file);
    changed(one);
  }

  function take(one, line) {
    if (line.error) return fail(one, line.error, [408, 429, 503, 507].includes(line.status));
    if ('waiting' in line) [one.state, one.ahead] = ['queued', line.waiting];
    if ('progress' in line) [one.state, one.part] = ['working', line.progress];
    for (const name of ['prediction', 'top', 'predictions', 'notes', 'segments', 'duration']) if (name in line) one[name] = line[name];
  }

  // --- what is seen --------------------------------------------------------------------------------

  const said = one => one.predictions  // of several labels a video those at their thresholds
    ? one.predictions.map(each => each.class).join(', ') || 'none of its classes'
    : one.prediction || '';

  const short = one => ({
    waiting: 'waiting', sending: 'uploading', checking: 'reading', queued: 'waiting',
    working: percent(one.part), done: said(one), failed: one.error === 'cancelled' ? 'cancelled' : 'refused',
  })[one.state];

  const long = one => ({
    waiting: 'Waiting for the videos before it',
    sending: `Uploading: ${percent(one.part)}`,
    checking: 'Uploaded: the server looks at it',
    queued: one.ahead === 1 ? 'One video is before it on the server' : `${one.ahead} videos are before it on the server`,
    working: one.top ? `Looking at what happens when: ${percent(one.part)}` : 'Looking at the whole video',
    done: [`Done: ${said(one)}`, ...one.notes].join('; '),
    failed: '',
  })[one.state];

  function show(one) {
    if (shown === one) return;
    shown = one;
    pressed = 0;
    $('viewer').hidden = false;
    $('name').textContent = one.file.name;
    video.hidden = false;
    video.src = one.url;
    video.play().catch(() => {});  // it has controls, if the browser will not start by itself
    drawn.top = drawn.segments = null;
    changed(one);
  }

  const drawn = { top: null, segments: null };

  function changed(one) {
    drawQueue();
    if (one !== shown) return;
    const ended = one.state === 'done' || one.state === 'failed';
    const text = long(one);
    // Each percent read aloud would be a nuisance: only the words before it are.
    if ($('state').textContent !== text) $('state').textContent = text;
    $('work').hidden = one.state === 'failed';
    $('work').classList.toggle('done', one.state === 'done');
    const bar = $('progress');
    bar.hidden = ended;
    if (one.state === 'sending' || (one.state === 'working' && one.top)) bar.value = one.part;
    else bar.removeAttribute('value');
    $('cancel').hidden = ended;
    $('retry').hidden = !(one.state === 'failed' && one.again);
    $('error').hidden = one.state !== 'failed';
    $('error').textContent = one.state === 'failed' ? `${one.file.name}: ${one.error}` : '';
    video.hidden = !one.playable;
    $('unplayable').hidden = one.playable || one.state === 'failed';
    drawTop(one);
    drawSegments(one);
    move();
  }

  function drawQueue() {
    $('queue').hidden = videos.length < 2;
    const list = $('queue').firstElementChild;
    while (list.children.length < videos.length) {
      const one = videos[list.children.length];
      const button = make('button');
      button.type = 'button';
      button.append(make('span', one.file.name, 'file'), make('span'));
      button.onclick = () => show(one);
      list.append(make('li'));
      list.lastElementChild.append(button);
    }
    videos.forEach((one, place) => {
      const button = list.children[place].firstElementChild;
      button.setAttribute('aria-current', String(one === shown));
      button.lastElementChild.textContent = short(one);
      button.lastElementChild.classList.toggle('failed', one.state === 'failed');
    });
  }

  function drawTop(one) {
    $('best').hidden = !one.top;
    if (drawn.top === one.top) return;
    drawn.top = one.top;
    const list = $('best').querySelector('ol');
    list.replaceChildren(...(one.top || []).map(each => {
      const item = make('li'), line = make('div', undefined, 'line'), bar = make('div', undefined, 'bar');
      const there = (one.predictions || []).some(other => other.class === each.class);
      line.append(make('span', there ? `✓ ${each.class}` : each.class), make('span', percent(each.probability)));
      bar.append(make('div'));
      bar.setAttribute('aria-hidden', 'true');
      bar.firstElementChild.style.width = `${100 * each.probability}%`;
      paint(bar.firstElementChild, each.class);
      item.append(line, bar);
      return item;
    }));
  }

  function drawSegments(one) {
    $('timeline').hidden = $('segments').hidden = !(one.segments && one.segments.length);
    if (drawn.segments === one.segments) return;
    drawn.segments = one.segments;
    const all = one.segments || [], total = one.duration || 1;
    const head = make('div');
    head.id = 'head';
    $('track').replaceChildren(...all.map((each, place) => {
      const button = make('button', each.class), width = 100 * (each.end - each.start) / total;
      button.type = 'button';
      button.style.left = `${100 * each.start / total}%`;
      button.style.width = `${width}%`;
      button.tabIndex = place ? -1 : 0;
      button.title = `${each.class}, ${time(each.start)} to ${time(each.end)}, ${percent(each.confidence)}`;
      button.setAttribute('aria-label', button.title);
      paint(button, each.class);
      button.onclick = () => seek(each, place);
      return button;
    }), head);
    $('segments').querySelector('ol').replaceChildren(...all.map((each, place) => {
      const item = make('li'), button = make('button'), dot = make('span', undefined, 'dot');
      button.type = 'button';
      paint(dot, each.class);
      button.append(dot, make('span', each.class), make('span', percent(each.confidence)),
        make('span'), make('small', `${time(each.start)} to ${time(each.end)}`));
      button.onclick = () => seek(each, place);
      item.append(button);
      return item;
    }));
    const axis = [0, 0.25, 0.5, 0.75, 1].map(part => make('span', time(part * one.duration)));
    $('axis').replaceChildren(...axis);
    fit();
  }

  function fit() {  // a name that has no room is not begun: the list below has it
    for (const button of $('track').querySelectorAll('button')) {
      button.classList.remove('narrow');
      button.classList.toggle('narrow', button.scrollWidth > button.clientWidth);
    }
  }

  function seek(segment, place) {
    pressed = segment.start;
    if (shown.playable) {
      // Just inside, as a frame's time is rounded; and never past the end, where it would begin anew.
      video.currentTime = Math.min(segment.start + 0.001, segment.end);
    }
    for (const [each, button] of $('track').querySelectorAll('button').entries()) button.tabIndex = each === place ? 0 : -1;
    move();
  }

  function move() {
    const one = shown;
    if (!one || !one.segments) return;
    const at = one.playable ? video.currentTime : pressed;
    const total = one.duration || 1;
    const head = $('head');
    if (head) head.style.left = `${Math.min(100, 100 * at / total)}%`;
    let place = one.segments.findIndex(each => each.start <= at + 1e-6 && at < each.end);
    if (place < 0 && one.segments.length && at >= one.segments[one.segments.length - 1].end) place = one.segments.length - 1;
    const current = one.segments[place];
    $('clock').textContent = time(Math.min(at, total));
    $('current').textContent = current ? current.class : '';
    $('sure').textContent = current ? percent(current.confidence) : '';
    for (const list of [$('track'), $('segments')]) {
      [...list.querySelectorAll('button')].forEach((button, each) => {
        const value = String(each === place);
        if (button.getAttribute('aria-pressed') !== value) button.setAttribute('aria-pressed', value);
      });
    }
  }

  function follow() {
    move();
    if (!video.paused && !video.ended) requestAnimationFrame(follow);
  }

  // --- what the user does --------------------------------------------------------------------------

  $('files').onchange = event => {
    add(event.target.files);
    event.target.value = '';  // so that the same file may be chosen again
  };
  $('cancel').onclick = () => {
    if (shown.request) shown.request.abort();
    else { fail(shown, 'cancelled', true); changed(shown); }
  };
  $('retry').onclick = () => {
    Object.assign(shown, { state: 'waiting', error: null, prediction: null, top: null, predictions: null, segments: null });
    changed(shown);
    next();
  };
  $('track').onkeydown = event => {
    const buttons = [...$('track').querySelectorAll('button')];
    const here = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (here < 0 || to === undefined || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
    buttons[to].click();
  };
  let inside = 0;
  const dropping = on => document.body.classList.toggle('dropping', on);
  addEventListener('dragenter', () => dropping(++inside > 0));
  addEventListener('dragleave', () => dropping(--inside > 0));
  addEventListener('dragover', event => event.preventDefault());
  addEventListener('drop', event => {
    event.preventDefault();
    dropping((inside = 0) > 0);
    add(event.dataTransfer.files);
  });
  const unplayable = () => {
    if (!shown || video.src !== shown.url) return;
    shown.playable = false;
    changed(shown);
  };
  video.onerror = unplayable;
  video.onloadedmetadata = () => { if (!video.videoWidth) unplayable(); };  // only its sound plays
  video.onplay = follow;
  video.ontimeupdate = video.onseeked = move;
  addEventListener('resize', fit);

  // The cookie has it now: it need not stay in the address, the history, or on the screen.
  if (location.search) history.replaceState(null, '', location.pathname);

  fetch('model').then(answer => answer.json()).then(answer => {
    if (answer.error) { $('model').textContent = answer.error; return; }
    facts = answer;
    const count = facts.classes.length;
    $('model').textContent = `${facts.run}: ${facts.model}, ${count} ${count === 1 ? 'class' : 'classes'}`;
    const longest = facts.max_seconds < 120 ? `${facts.max_seconds} seconds` : `${Math.round(facts.max_seconds / 6) / 10} minutes`;
    $('limits').textContent = `Up to ${facts.max_bytes / 1e6} MB and ${longest} of video.`;
    next();
  }).catch(() => { $('model').textContent = 'The server cannot be reached: is it still running?'; });
})();
