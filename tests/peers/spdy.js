'use strict'
// Drives exec, attach and port-forward of a streaming URL through npm's spdy-transport, which keeps to windows.
//
// usage: NODE_PATH=… node spdy.js exec|attach URL [options]
//        NODE_PATH=… node spdy.js port-forward URL --ports 80,81 [options]
//
// exec, attach: stdin, stdout and stderr are the process's own. Exits with the code of the Status, 0 for success.
//   --protocols A,B     what is asked for, best first (v4 to v1 of channel.k8s.io)
//   --streams A,B       what is opened after `error` (stdin,stdout,stderr)
//   --resize 80x24,…    sizes that are sent on `resize`, which is opened for them
//   --status FILE       where the Status goes, as it came; otherwise it is the last line of stderr
//   --slow MS           reads 64 KiB of stdout each so many milliseconds
//
// port-forward: opens all connections at once, sends bytes on each, half-closes it, and compares what comes back.
// Prints one JSON object a connection: number, port, bytes, echo, error. Exits with 1 when one is no echo.
//   --connections N     in turn to each of the ports (1)
//   --bytes N           sent on each (100000)
//
// Exits with 70 when the peer does something else than it should, and with 71 when the upgrade is refused: then
// stderr has the status and the body of the answer.

const fs = require('fs')
const http = require('http')
const transport = require('spdy-transport')

const K8S = ['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io', 'channel.k8s.io']
const PROTOCOL_ERROR = 70
const REFUSED = 71

// For an end that nobody has thought of, as of a session that is cut.
process.exitCode = PROTOCOL_ERROR

function fail (code, text) {
  process.stderr.write(text + '\n', () => process.exit(code))
}

function options (words) {
  const found = {}
  for (let at = 0; at < words.length; at += 2) {
    if (!words[at].startsWith('--') || words[at + 1] === undefined) {
      throw new Error('not an option: ' + words[at])
    }
    found[words[at].slice(2)] = words[at + 1]
  }
  return found
}

// Upgrades the URL, and hands over the session.
function connect (url, protocols, ready) {
  const request = http.request(url, {
    method: 'POST',
    headers: { Connection: 'Upgrade', Upgrade: 'SPDY/3.1', 'X-Stream-Protocol-Version': protocols }
  })
  request.on('error', (error) => fail(PROTOCOL_ERROR, 'request: ' + error.message))
  request.on('response', (answer) => {
    let body = ''
    answer.on('data', (piece) => { body += piece })
    answer.on('end', () => fail(REFUSED, answer.statusCode + ' ' + body))
  })
  request.on('upgrade', (answer, socket, head) => {
    const chosen = answer.headers['x-stream-protocol-version']
    if (!protocols.includes(chosen)) return fail(PROTOCOL_ERROR, 'chosen: ' + chosen)
    if (head.length > 0) socket.unshift(head)
    socket.setNoDelay(true)
    const session = transport.connection.create(socket, { protocol: 'spdy', isServer: false })
    session.on('error', (error) => fail(PROTOCOL_ERROR, 'session: ' + error.message))
    session.on('close', () => fail(PROTOCOL_ERROR, 'the session ended'))
    session.start(3.1)
    ready(session, chosen)
  })
  request.end()
}

// Opens a stream. It insists on a reply, with a status.
function open (session, headers, opened) {
  const stream = session.request({ method: 'POST', path: '/', host: 'localhost', headers })
  stream.on('error', (error) => fail(PROTOCOL_ERROR, JSON.stringify(headers) + ': ' + error.message))
  stream.on('response', (status) => {
    if (status !== 200) return fail(PROTOCOL_ERROR, JSON.stringify(headers) + ': status ' + status)
    if (opened) opened(stream)
  })
  return stream
}

function collect (stream, done) {
  const pieces = []
  stream.on('data', (piece) => pieces.push(piece))
  stream.on('end', () => done(Buffer.concat(pieces)))
}

function exitCode (protocol, text) {
  if (protocol !== K8S[0]) return text === '' ? 0 : 1
  const status = JSON.parse(text)
  if (status.status === 'Success') return 0
  const causes = (status.details && status.details.causes) || []
  const cause = causes.find((cause) => cause.reason === 'ExitCode')
  return cause ? Number(cause.message) : 1
}

// Passes a stream on, at leisure.
function slowly (from, to, pause) {
  const next = () => {
    const piece = from.read(64 * 1024) || from.read()
    if (piece !== null) to.write(piece)
    setTimeout(next, pause)
  }
  next()
}

function exec (url, given) {
  const protocols = given.protocols ? given.protocols.split(',') : K8S
  const kinds = (given.streams === undefined ? 'stdin,stdout,stderr' : given.streams).split(',').filter(Boolean)
  connect(url, protocols, (session, protocol) => {
    const error = open(session, { streamtype: 'error' })
    const streams = {}
    for (const kind of kinds) streams[kind] = open(session, { streamtype: kind })
    if (given.resize) {
      const resize = open(session, { streamtype: 'resize' })
      for (const size of given.resize.split(',')) {
        const [Width, Height] = size.split('x').map(Number)
        resize.write(JSON.stringify({ Width, Height }) + '\n')
      }
    }
    let waiting = 1
    let text = ''
    const ended = () => {
      waiting -= 1
      if (waiting > 0) return
      session.removeAllListeners('close')
      session.end()
      let code
      try {
        code = exitCode(protocol, text)
      } catch (error) {
        return fail(PROTOCOL_ERROR, 'status: ' + text)
      }
      if (given.status) {
        fs.writeFileSync(given.status, text)
        // What is still to be written goes out first.
        process.stdout.write('', () => process.exit(code))
      } else {
        fail(code, text)
      }
    }
    collect(error, (bytes) => { text = bytes.toString(); ended() })
    for (const [kind, sink] of [['stdout', process.stdout], ['stderr', process.stderr]]) {
      if (!streams[kind]) continue
      waiting += 1
      streams[kind].on('end', ended)
      if (kind === 'stdout' && given.slow) slowly(streams[kind], sink, Number(given.slow))
      else streams[kind].pipe(sink, { end: false })
    }
    if (streams.stdin) process.stdin.pipe(streams.stdin)
  })
}

function forward (url, given) {
  const ports = given.ports.split(',')
  const count = Number(given.connections || 1)
  const size = Number(given.bytes === undefined ? 100000 : given.bytes)
  connect(url, ['portforward.k8s.io'], (session) => {
    let left = count
    let code = 0
    for (let number = 0; number < count; number++) {
      const port = ports[number % ports.length]
      const headers = { port, requestid: String(number) }
      const sent = Buffer.alloc(size)
      for (let at = 0; at < size; at++) sent[at] = (at * 31 + number) % 256
      let failure = null
      let got = null
      const done = () => {
        if (failure === null || got === null) return
        const echo = got.equals(sent)
        if (!echo) code = 1
        console.log(JSON.stringify({ number, port: Number(port), bytes: got.length, echo, error: failure }))
        left -= 1
        if (left > 0) return
        session.removeAllListeners('close')
        session.end()
        process.stdout.write('', () => process.exit(code))
      }
      const error = open(session, Object.assign({ streamtype: 'error' }, headers))
      error.end()
      collect(error, (bytes) => { failure = bytes.toString(); done() })
      const data = open(session, Object.assign({ streamtype: 'data' }, headers))
      collect(data, (bytes) => { got = bytes; done() })
      data.end(sent)
    }
  })
}

const [mode, url, ...words] = process.argv.slice(2)
const modes = { exec, attach: exec, 'port-forward': forward }
if (!modes[mode] || !url) {
  fail(64, 'usage: spdy.js exec|attach|port-forward URL [options]')
} else {
  modes[mode](url, options(words))
}
