//! What is not copied on its way, told by where in memory it lies: heads are read where they were received, large bodies are
//! sent from where they are.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use super::*;
use crate::response::Bytes;

/// Where the bytes are, and how many.
fn place(bytes: &[u8]) -> (usize, usize) {
    (bytes.as_ptr().addr(), bytes.len())
}

/// Do all bytes of one place lie in the other?
fn is_within((inner, inner_len): (usize, usize), (outer, outer_len): (usize, usize)) -> bool {
    outer <= inner && inner + inner_len <= outer + outer_len
}

#[test]
fn a_head_is_read_where_it_was_received() {
    let places = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&places);
    let look = move |request: &mut Request<'_>| {
        let id = request.param_text("id").expect("it is there");
        let found = [
            request.target().as_bytes(),
            request.path().as_bytes(),
            request.query().expect("it is there").as_bytes(),
            id.as_bytes(),
            request.header("X-Long").expect("it is there").as_bytes(),
            request.method().as_str().as_bytes(),
        ];
        noted.lock().expect("one thread").extend(found.map(place));
        "hello"
    };
    let value = "v".repeat(500);
    let request = format!("SEARCH /users/7?q=1 HTTP/1.1\r\nHost: a\r\nX-Long: {value}\r\n\r\n");
    let twin = Twin::new(&[request.as_bytes(), request.as_bytes()]);
    run(&twin, &service(Router::new().any("/users/{id}", look)));
    assert_eq!(codes(&twin.output()), [200, 200]);
    let (places, received) = (places.lock().expect("one thread"), twin.filled());
    assert_eq!((places.len(), received.len()), (12, 2));
    for (places, received) in places.chunks(6).zip(received) {
        assert!(places.iter().all(|&place| is_within(place, received)), "{places:?} in {received:?}");
    }
}

#[test]
fn a_large_body_is_sent_from_where_it_is() {
    let len = COPIED_BYTES_MAX + 1;
    let shared: Arc<[u8]> = vec![b's'; len].into();
    static STATIC: [u8; COPIED_BYTES_MAX + 1] = [b'c'; COPIED_BYTES_MAX + 1];
    let parts =
        [Bytes::from(Arc::clone(&shared)), Bytes::from(&STATIC[..]), Bytes::from(Arc::clone(&shared))];
    let whole = Arc::clone(&shared);
    let app = Router::new()
        .get("/shared", move |_: &mut Request<'_>| Response::bytes("text/x", Bytes::from(Arc::clone(&whole))))
        .get("/static", |_: &mut Request<'_>| Response::bytes("text/x", &STATIC[..]))
        .get("/parts", move |_: &mut Request<'_>| Response::parts("text/x", parts.to_vec()));
    let service = service(app);
    let (shared, fixed) = (place(&shared), place(&STATIC));
    for (path, bodies) in
        [("/shared", &[shared][..]), ("/static", &[fixed]), ("/parts", &[shared, fixed, shared])]
    {
        let twin = Twin::new(&[format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()]);
        run(&twin, &service);
        assert_eq!(codes(&twin.output()), [200]);
        // The head, and each body as it is, by one call.
        assert_eq!(twin.sends().len(), 1, "{path}");
        let mut lent = twin.lent();
        lent.retain(|&(_, len)| len > 0);
        assert_eq!(lent[1..], *bodies, "{path}: what follows the head is the body itself");
    }
}
