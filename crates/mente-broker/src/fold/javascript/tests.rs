use std::future::{Future, ready};
use std::pin::Pin;

use bytes::Bytes;
use mente_engine::{Attribute, Data, Event, Now, Offset, Timestamp};
use serde_json::json;

use super::*;
use crate::fold::folder::{Folded, Folder, Rule};
use crate::name::StreamName;
use crate::store::Place;

/// Goes on by as much as is said whenever it is looked at.
struct Ticking(Duration, std::sync::Mutex<Duration>);

impl Clock for Ticking {
    fn now(&self) -> Now {
        let mut now = self.1.lock().unwrap();
        *now += self.0;
        Now {
            monotone: *now,
            wall: Timestamp(0),
        }
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}

fn event(revision: u64, data: &Value) -> StreamEvent {
    StreamEvent {
        actor: None,
        stream: StreamName::new("order-1").unwrap(),
        place: Place {
            revision,
            position: revision + 100,
            offset: Offset(revision + 1_000),
        },
        time: Timestamp(1_700_000_000_123),
        event: Event {
            id: format!("e{revision}"),
            source: "/shop".into(),
            kind: "T".into(),
            data: Data::Json(Bytes::from(data.to_string())),
            ..Event::default()
        },
    }
}

fn folder(source: &str, tick: Duration) -> Result<Folder> {
    let rule = Rule::parse(&json!({ "javascript": source }))?;
    let clock = Arc::new(Ticking(tick, std::sync::Mutex::default()));
    Ok(Folder::new(Arc::new(rule), 1, clock))
}

fn fold(source: &str, events: &[StreamEvent]) -> Result<Value> {
    let mut folder = folder(source, Duration::ZERO)?;
    let mut state = folder.begin();
    folder.at_work(|machine| {
        for event in events {
            machine.apply(&mut state, event)?;
        }
        Ok(())
    })?;
    state.into_value()
}

/// Runs the body of a reducer over two events with the data 0 and 1.
fn reduced(body: &str) -> Result<Value> {
    let source = format!("function reduce(state, event) {{\n{body}\n}}");
    fold(&source, &[event(0, &json!(0)), event(1, &json!(1))])
}

fn check(body: &str, expect: Value) {
    assert_eq!(reduced(body), Ok(expect), "{body}");
}

fn refused(body: &str, kind: Kind, says: &str) {
    let error = reduced(body).expect_err(body);
    assert_eq!(error.kind, kind, "{body}: {error}");
    assert!(error.message.contains(says), "{body}: {error}");
    let place = "stream order-1 at revision ";
    assert!(error.message.starts_with(place), "{body}: {error}");
}

#[test]
fn a_state_is_returned_or_changed() {
    check("state.n = (state.n ?? 0) + event.data", json!({"n": 1}));
    check("return {n: [event.data]}", json!({"n": [1]}));
    check(
        "return {...state, ['k' + event.data]: 1}",
        json!({"k0": 1, "k1": 1}),
    );
    check("if (event.data === 0) state.x = 1", json!({"x": 1}));
    check(
        "state.nan = NaN; state.none = undefined",
        json!({"nan": null}),
    );
    check(
        "state['__proto__x'] = 1; state.constructor = 2; state.toString = 3",
        json!({"__proto__x": 1, "constructor": 2, "toString": 3}),
    );
    check(
        "class Mine extends Error { constructor() { super('x'); this.name = 'Mine' } } state.e = new Mine().name",
        json!({"e": "Mine"}),
    );
    let arrow = "const more = 2\nconst reduce = (state, event) => ({n: more}) // the end";
    assert_eq!(fold(arrow, &[event(0, &json!(0))]), Ok(json!({"n": 2})));
}

#[test]
fn an_event_is_seen_as_cloudevents_has_it() {
    let mut seen = event(7, &json!({"a": [1.5]}));
    seen.event.extensions = vec![
        ("tenant".into(), Attribute::Text("x".into())),
        ("n".into(), Attribute::Integer(3)),
        ("revision".into(), Attribute::Boolean(true)),
    ];
    seen.event.subject = Some("s".into());
    let told = json!({"seen": {
        "specversion": "1.0", "id": "e7", "source": "/shop", "type": "T", "subject": "s",
        "time": "2023-11-14T22:13:20.123Z", "tenant": "x", "n": 3,
        "stream": "order-1", "revision": 7, "position": 107, "data": {"a": [1.5]},
    }});
    let source = "function reduce(state, event) { return {seen: event} }";
    assert_eq!(fold(source, std::slice::from_ref(&seen)), Ok(told));
    // What came as JSON and is none does not become members of the event.
    seen.event.data = Data::Json(Bytes::from_static(br#"1,"id":"other""#));
    let folded = fold(source, &[seen]).unwrap();
    assert_eq!(
        (&folded["seen"]["id"], &folded["seen"]["data"]),
        (&json!("e7"), &Value::Null)
    );
}

#[test]
fn nothing_but_the_state_goes_on() {
    // Each would count events beside the state.
    let kept = [
        "let n = 0; function reduce(state) { state.n = ++n }",
        "const kept = []; function reduce(state) { kept.push(1); state.n = kept.length }",
        "function reduce(state) { reduce.n = (reduce.n ?? 0) + 1; state.n = reduce.n }",
        "const tag = (parts) => parts; function reduce(state) { const t = tag`x`; try { t.n = 1 } catch {} state.n = t.n ?? 1 }",
        "function reduce(state) { const r = /x/g; r.test('xx'); state.n = r.lastIndex }",
        "function reduce(state) { if (state.f) state.n = 2; else { state.f = () => 1; state.n = 1 } }",
        "function reduce(state) { Object.defineProperty(state, 'hidden', {value: 1, enumerable: false}); state.n = 1; if (state[Symbol.for('s')]) state.n = 2; state[Symbol.for('s')] = 1 }",
    ];
    for source in kept {
        let folded = fold(source, &[event(0, &json!(0)), event(1, &json!(1))]);
        assert_eq!(folded, Ok(json!({"n": 1})), "{source}");
    }
    let frozen = [
        "Object.prototype.n = 1",
        "Array.prototype.push = 1",
        "globalThis.n = 1",
        "n = 1",
        "Math.n = 1",
        "Object.getPrototypeOf(function* () {}).n = 1",
        "JSON.parse = 1",
        "Object.getPrototypeOf([][Symbol.iterator]()).next = 1",
        "Error.n = 1",
        "Map.prototype.get = 1",
        "Object.setPrototypeOf(Object.prototype, {})",
        "''.__proto__.n = 1",
        "Symbol.iterator.__proto__.n = 1",
        "(async () => 1)().__proto__.n = 1",
        "''.matchAll(/x/g).__proto__.n = 1",
        "Error.prepareStackTrace = () => 1",
        "Error.stackTraceLimit = 1",
        "Object.defineProperty(globalThis, 'n', {value: 1})",
        "delete Array.prototype.map",
        "Object.prototype.toString = 1",
    ];
    for body in frozen {
        refused(body, Kind::Invalid, "Error");
    }
}

#[test]
fn there_is_no_clock_no_chance_and_no_later() {
    for body in [
        "Date.now()",
        "new Date()",
        "Date()",
        "new Date(0)",
        "Date.parse('x')",
    ] {
        refused(
            body,
            Kind::Invalid,
            "Date is a clock, and a reducer has none: take event.time (line 2)",
        );
    }
    refused("Math.random()", Kind::Invalid, "Math.random is chance");
    for body in [
        "eval('1')",
        "(0, eval)('1')",
        "new Function('return 1')",
        "Function('1')()",
        "(() => 1).constructor('return 1')()",
        "(function* () {}).constructor('1')",
        "(async () => 1).constructor('1')",
    ] {
        refused(body, Kind::Invalid, "makes no code from text");
    }
    for body in [
        "return Promise.resolve({})",
        "setTimeout(() => 1)",
        "queueMicrotask(() => 1)",
        "(async () => { await 1 })()",
        "return (async () => ({}))()",
        "(async () => 1)().then(() => 1)",
    ] {
        refused(body, Kind::Invalid, "has no later");
    }
    for body in [
        "import('x')",
        "fetch('http://x')",
        "require('fs')",
        "console.log(1)",
        "performance.now()",
        "new WeakRef({})",
        "new Proxy({}, {})",
        "BigInt(1)",
        "new Uint8Array(1)",
        "std.exit(1)",
        "Atomics.load",
    ] {
        assert!(reduced(body).is_err(), "{body}");
    }
}

#[test]
fn what_a_reducer_throws_names_its_line() {
    refused(
        "\nthrow new Error('no such item')",
        Kind::Invalid,
        "revision 0: Error: no such item (line 3)",
    );
    refused(
        "if (event.data === 1) event.data.x.y()",
        Kind::Invalid,
        "revision 1: TypeError: ",
    );
    refused("throw 'text'", Kind::Invalid, "threw \"text\"");
    refused("throw {a: 1}", Kind::Invalid, "no Error");
    refused("throw null", Kind::TooLarge, "threw null");
    refused("throw undefined", Kind::Invalid, "no Error");
    refused(
        "const e = new Error('x'); Object.defineProperty(e, 'message', {get() { while (true); }}); throw e",
        Kind::Invalid,
        "Error",
    );
    refused("throw new Error('x'.repeat(1e6))", Kind::Invalid, "xxx");
    let error = reduced("throw new Error('x'.repeat(1e6))").unwrap_err();
    assert!(error.message.len() < 500);
}

#[test]
fn a_state_is_an_object_within_bounds() {
    for (body, kind) in [
        ("return 1", "a number"),
        ("return null", "null"),
        ("return []", "an array"),
        ("return 'x'", "a string"),
        ("return () => 1", "a function"),
        ("return Symbol()", "a symbol"),
    ] {
        refused(
            body,
            Kind::Invalid,
            &format!("the reducer returned {kind}: return an object, or nothing"),
        );
    }
    refused(
        "return {toJSON() { return 1 }}",
        Kind::Invalid,
        "no object of JSON",
    );
    refused(
        "return {toJSON() { return undefined }}",
        Kind::Invalid,
        "no object of JSON",
    );
    refused("state.self = state", Kind::Invalid, "circular");
    refused(
        "state.half = '\\u{1F600}'[0]",
        Kind::Invalid,
        "half a character",
    );
    check(
        "state.whole = '\\u{1F600}\\\\ud83d \\u2028 \\0'",
        json!({"whole": "\u{1F600}\\ud83d \u{2028} \0"}),
    );
    refused(
        "state.x = 'x'.repeat(1 << 20)",
        Kind::TooLarge,
        "more than the limit of 1048576",
    );
    refused(
        "let deep = state; for (let n = 0; n < 32; n++) deep = deep.x = {}",
        Kind::TooLarge,
        "nest deeper than 32",
    );
    let deepest = reduced("let deep = state; for (let n = 0; n < 31; n++) deep = deep.x = {}");
    assert!(deepest.is_ok(), "{deepest:?}");
    check(
        "state.text = '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{\"'",
        json!({"text": "[".repeat(38) + "{\""}),
    );
}

#[test]
fn a_reducer_ends() {
    let steps = "10000000 steps and was stopped";
    for body in [
        "while (true);",
        "for (;;) try { while (true); } catch {}",
        "/(a*)*b/.test('a'.repeat(100))",
        "function* g() { while (true) yield 1 } for (const x of g());",
        "while (true) state.x = {}",
        "state.toJSON = () => { while (true); }",
        "new Set(new Array(4294967295))",
    ] {
        refused(body, Kind::TooLarge, steps);
    }
    let memory = "more than 67108864 bytes of memory";
    for body in [
        "const all = []; while (true) all.push(new Array(1000).fill(1))",
        "let x = 'x'; while (true) x += x + 1",
        "'x'.repeat(1 << 29)",
        "Array.from({length: 4294967295})",
        "JSON.stringify(new Array(4294967295))",
    ] {
        refused(body, Kind::TooLarge, memory);
    }
    for body in [
        "(function f() { f() })()",
        "(function f() { [1].map(f) })()",
        "let a = {}; for (let n = 0; n < 1e5; n++) a = {a}; state.a = a",
        "JSON.parse('['.repeat(1e6))",
    ] {
        refused(body, Kind::TooLarge, "calls itself deeper");
    }
}

#[test]
fn what_could_not_be_stopped_does_not_start() {
    let much = "would go over too much";
    let text = "const text = 'a'.repeat(2e6), part = 'a'.repeat(1e6) + 'b';";
    for call in [
        "text.indexOf(part)",
        "text.lastIndexOf(part)",
        "text.includes(part)",
        "text.split(part)",
        "text.replace(part, '')",
        "text.replaceAll(part, '')",
        "text.indexOf({toString: () => part})",
    ] {
        refused(&format!("{text} {call}"), Kind::Invalid, much);
    }
    let list = "const list = new Array(4294967295);";
    for call in [
        "list.indexOf(1)",
        "list.includes(1)",
        "list.reverse()",
        "list.sort()",
        "list.join()",
        "list.map(x => x)",
        "[].concat(list)",
        "list.fill(1)",
        "list.every(x => x)",
        "list.lastIndexOf(1)",
        "list.flat()",
        "String(list)",
        "list.slice(1)",
        "list.splice(1, 1)",
        "list.find(x => x)",
        "list.shift()",
        "list.unshift(1)",
        "list.copyWithin(0, 1)",
    ] {
        refused(&format!("{list} {call}"), Kind::Invalid, much);
    }
    for body in [
        "[].indexOf.call({length: 2 ** 53 - 1}, 1)",
        "[].reverse.call({length: 2 ** 53 - 1})",
        "[].join.call({length: 1e9})",
    ] {
        refused(body, Kind::Invalid, "is for arrays");
    }
    check(
        "state.n = [].concat({length: 2 ** 53 - 1, [Symbol.isConcatSpreadable]: true}).length",
        json!({"n": 1}),
    );
    refused("[].values().drop(1)", Kind::Invalid, "not a function");
    // What is guarded still does what it did.
    check("state.x = ['a,b'.split(','), 'ab'.split(), 'abc'.indexOf('c'), 'abc'.replace(/b/, 'x'), 'aa'.replaceAll('a', 'b'),
        'abc'.replace('b', (b) => b + b), [[1, [2]], 3].flat(), [3, 1, 2].sort(), [1, 2].concat([3], 4), [1, 2].includes(2),
        [1, 2].flatMap((x) => [x, x]), 'abcabc'.lastIndexOf('a'), 'a-b_c'.split(/[-_]/), [1, 2, 3].slice(1)]",
        json!({"x": [["a", "b"], ["ab"], 2, "axc", "bb", "abbc", [1, [2], 3], [1, 2, 3], [1, 2, 3, 4], true,
            [1, 1, 2, 2], 3, ["a", "b", "c"], [2, 3]]}));
}

#[test]
fn a_source_is_read_when_it_is_declared() {
    let declared = |source: &str| folder(source, Duration::ZERO)?.at_work(|_| Ok(()));
    assert!(declared("function reduce(state, event) {}").is_ok());
    for (source, says) in [
        (
            "function reduce(state, event) {\n  state. = 1\n}",
            "SyntaxError: ",
        ),
        (
            "function reduce(state, event) {\n  state. = 1\n}",
            "(line 2)",
        ),
        ("", "declares no function reduce(state, event)"),
        (
            "const reduce = 1",
            "declares no function reduce(state, event)",
        ),
        ("throw new Error('early')", "Error: early (line 1)"),
        ("}); const reduce = 1; (function () {", "SyntaxError"),
        ("function reduce() {} return reduce", "SyntaxError"),
        ("export default function reduce() {}", "SyntaxError"),
        ("import x from 'y'; function reduce() {}", "Error"),
        ("while (true);", "steps and was stopped"),
        ("with (Math) {} function reduce() {}", "SyntaxError"),
        ("function reduce(s) { s.n = 10n }", "\"10n\" is a BigInt"),
        ("function reduce(s) { s.n = 0xffn }", "BigInt"),
        ("function reduce(s) { s.n = 1_0n }", "BigInt"),
        ("/*", "SyntaxError"),
        ("function reduce() {} /*", "SyntaxError"),
        ("function reduce() {} `", "SyntaxError"),
        ("function reduce() {}\n`${", "SyntaxError"),
        ("function reduce() {}\0", "NUL"),
    ] {
        let error = declared(source).expect_err(source);
        assert!(error.message.contains(says), "{source:?}: {error}");
    }
    let long = format!(
        "function reduce() {{}} // {}",
        "x".repeat(limits::DEFINITION_BYTES)
    );
    assert_eq!(declared(&long).unwrap_err().kind, Kind::TooLarge);
    for other in [
        json!({"javascript": "x", "T": []}),
        json!({"javascript": 1}),
        json!({"javaScript": "x"}),
    ] {
        assert!(Rule::parse(&other).is_err(), "{other}");
    }
    let by_type = Rule::parse(&json!({"javascript": [{"merge": "data"}]})).unwrap();
    assert!(
        !by_type.is_slow(),
        "a type of this name is folded as declared"
    );
}

#[test]
fn a_request_ends_and_so_does_time() {
    // Each event is within its steps, all are not; and how the events lie in pages is of no account.
    let source = "function reduce(state, event) { state.n = event.revision; for (let n = 0; n < 2e6; n++); }";
    let mut folder_of_all = folder(source, Duration::ZERO).unwrap();
    let mut state = folder_of_all.begin();
    let mut failed = None;
    for revision in 0..400 {
        let done =
            folder_of_all.at_work(|machine| machine.apply(&mut state, &event(revision, &json!(0))));
        if let Err(error) = done {
            failed = Some((revision, error));
            break;
        }
    }
    let (revision, error) = failed.expect("it is stopped");
    assert!((90..=110).contains(&revision), "{revision}");
    assert!(error.message.contains("for the events so far"), "{error}");

    let mut slow = folder(source, Duration::from_secs(1)).unwrap();
    let mut state = slow.begin();
    let done = slow.at_work(|machine| machine.apply(&mut state, &event(0, &json!(0))));
    assert!(done.unwrap_err().message.contains("more than 5000 ms"));
}

#[test]
fn what_is_told_of_an_event_is_what_differs() {
    let mut folder = folder(
        "function reduce(state, event) { state.a = {n: event.data}; state.b = 1 }",
        Duration::ZERO,
    )
    .unwrap();
    let mut state = folder.begin();
    let mut tell = |revision, data| {
        let told =
            folder.at_work(|machine| machine.apply_and_tell(&mut state, &event(revision, &data)));
        let told = told.unwrap().into_iter();
        told.map(|change| (change.path.join("."), change.before, change.after))
            .collect::<Vec<_>>()
    };
    assert_eq!(tell(0, json!(5)).len(), 2);
    assert_eq!(
        tell(1, json!(6)),
        [("a.n".to_owned(), Some(json!(5)), Some(json!(6)))]
    );
    assert!(matches!(state, Folded::Reduced(_)));
}

/// Memory runs out at every place: while the source is compiled, while it runs, while it throws. The engine refuses, and neither crashes nor says something else.
#[test]
fn memory_may_run_out_anywhere() {
    let source = "const names = new Map([['a', 1]]);
        class Item { constructor(n) { this.n = n; this.text = `item ${n}`.padEnd(300, 'x'); } get twice() { return this.n * 2; } }
        function* items(n) { for (let i = 0; i < n; i++) yield new Item(i); }
        function reduce(state, event) {
            const all = [...items(200)].map((item) => ({...item, twice: item.twice, ...event}));
            try { all.sort((a, b) => b.n - a.n); } catch (e) { throw new Error('again ' + e.message); }
            const found = /(\\d+)-(?<rest>.*)/.exec(JSON.stringify(all));
            state.all = all.slice(0, 3).concat([...names.keys()], found?.groups?.rest?.split('x') ?? []);
            state.n = (state.n ?? 0) + 1;
        }";
    let rule = Script::parse(json!({ "javascript": source }).as_object().unwrap());
    let script = rule.unwrap().unwrap();
    let events = [
        event(0, &json!({"a": [1, {"b": "c"}]})),
        event(1, &json!("x".repeat(500))),
    ];
    let run = |memory_bytes: usize| {
        let clock = Arc::new(Ticking(Duration::ZERO, std::sync::Mutex::default()));
        let reducer = Reducer::compile_within(memory_bytes, &script, Left::default(), clock)?;
        let mut state = Text::default();
        events
            .iter()
            .try_for_each(|event| reducer.apply(&mut state, event))?;
        Ok::<_, Error>(state)
    };
    let whole = run(limits::REDUCER_MEMORY_BYTES).unwrap();
    let (mut limit, mut refused) = (500_000, 0);
    while limit < 4_000_000 {
        match run(limit) {
            Ok(state) => assert_eq!(state, whole, "{limit}"),
            Err(_) => refused += 1,
        }
        limit += 7_919;
    }
    assert!(refused > 40, "{refused}");
}
