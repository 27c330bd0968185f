//! Reducers that want all memory and all time, many at once.

use mente_engine::limits;
use serde_json::json;

use crate::attack::Attacked;

#[tokio::test]
async fn reducers_take_what_is_theirs_and_no_more() {
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    let event = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": "t", "data": 1});
    let bodies = [
        "const all = []; while (true) all.push(new Array(1000).fill(event))",
        "let text = 'x'; while (true) { text += text + event.id; state[text.length] = text; }",
        "const all = new Map(); for (let n = 0; ; n++) all.set({ n }, `${n}`.repeat(1000))",
        "try { (function deep() { new Array(1e5).fill(deep()) })() } catch { while (true); }",
        "JSON.stringify(new Array(4294967295))",
    ];
    let mut paths = Vec::new();
    for (n, body) in bodies.iter().enumerate() {
        let source = format!("function reduce(state, event) {{ {body} }}");
        let fold = json!({ "javascript": source }).to_string();
        server.ok("PUT", &format!("/folds/bomb{n}"), &fold).await;
        let path = format!("/streams/bomb{n}-1");
        let kind = Some("application/cloudevents+json");
        let appended = server
            .client
            .request("POST", &path, kind, event.to_string());
        assert_eq!(appended.await.unwrap().status, 200);
        paths.extend(vec![format!("{path}/state"); 4]);
    }
    let asked = paths
        .iter()
        .map(|path| server.client.request("GET", path, None, ""));
    for (path, answer) in paths.iter().zip(futures::future::join_all(asked).await) {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    // A reducer and what its allocator holds back, for each that runs at one time.
    let most = limits::REDUCERS * limits::REDUCER_MEMORY_BYTES * 3 / 2;
    attacked.survives((most >> 20) as u64 + 64).await;
}
