//! Tests of the checks: sample files, wrong and right, with the problems that must be reported.

use crate::{check, words};

/// `file | its code | rules it breaks`: nothing after the last bar means correct code.
const CASES: &str = r"
src/grpc/session.rs     | use crate::store::pool::Database;                             | arrows
src/jobs/expire.rs      | use crate::grpc::error::status;                               | arrows
src/grpc/mod.rs         | use crate::jobs::Jobs;                                        | arrows
src/grpc/session.rs     | use crate::session::create::create; use crate::grpc::pb;      |
src/session/create.rs   | use crate::store::sessions::insert;                           |

src/grpc/session.rs     | use crate::{error::Error, session::{list, end}, store::pool}; | arrows
src/grpc/session.rs     | use crate::{session::{list, create::{self, New}}, clock};     |
src/model/ids.rs        | use {crate::store, std::fmt};                                 | arrows
src/session/list.rs     | use crate::{model::{page::Page, ids}, store::sessions as s};  |

src/cache/mod.rs        | fn f() -> Vec<crate::session::Touch> { g() }                  | arrows
src/store/rows.rs       | fn f() { crate::cache::evict::<u8>(1) }                       | arrows
src/cache/mod.rs        | fn f(x: &crate::store::Row) -> crate::model::Id { x.id }      |

src/grpc/session.rs     | use super::super::store::pool;                                | arrows
src/session.rs          | use super::alert::work;                                       | arrows
src/grpc/auth.rs        | mod a { fn f() { super::super::super::store::g() } }          | arrows
src/grpc/auth.rs        | mod a { fn f() { super::g() } } use super::observe;           |
src/grpc/session.rs     | use super::convert; mod tests { use super::super::pb; }       |

src/session/refresh.rs  | use crate::alert::raise;                                      | arrows
src/session/raise.rs    | use crate::alert::terminate;                                  | arrows
src/token/access.rs     | use crate::caller::Scopes;                                    | arrows
src/detection/run.rs    | use crate::store::activities;                                 | arrows
src/session/refresh.rs  | use crate::model::alert::Alert; use crate::token::refresh;    |
src/alert/raise.rs      | use crate::{cache, clock::Clock, model::alert, store};        |
src/grpc/alert.rs       | use crate::{alert, session, token::keyring};                  |
src/gateway/keys.rs     | use crate::{grpc::pb, token::access}; use tonic::Status;      |
src/gateway/keys.rs     | use crate::store::keys;                                       | arrows
src/edge/tls.rs         | use crate::model::caller::Peer; use hyper::body::Incoming;    |
src/edge/tls.rs         | use crate::token::keyring; use tonic::Status;                 | arrows homes
src/grpc/auth.rs        | use crate::edge::tls; use hyper_util::rt::TokioIo;            | arrows homes
src/server.rs           | use crate::gateway::Gateway;                                  | arrows

src/error.rs            | use crate::store::Failure;                                    | arrows
src/dev_postgres.rs     | use crate::model::ids;                                        | arrows
src/session/mod.rs      | use crate::dev_postgres::start;                               | arrows
src/config.rs           | use crate::model::policy::Policy; use crate::error::Error;    |
src/server/wiring.rs    | use crate::{dev_postgres, grpc, jobs, store::pool};           |
src/cli.rs              | use sessiond::{server::Server, dev_postgres};                 |
src/lib.rs              | pub use crate::store::pool; pub mod surprise;                 |

src/helpers/text.rs     |                                                               | arrows
src/grpc/auth.rs        | use crate::Database;                                          | arrows
src/grpc/auth.rs        | use crate as root;                                            | arrows
src/grpc/auth.rs        | use crate::{self as root};                                    | arrows

src/session/create.rs   | use diesel::QueryDsl;                                         | homes
src/session/create.rs   | use {std::fmt, ::diesel_async::AsyncConnection as C};         | homes
src/cache/feed.rs       | fn f(c: &dyn ::bb8::ManageConnection) {}                      | homes
src/cli.rs              | extern crate tokio_postgres;                                  | homes
src/server.rs           | use tokio_postgres_rustls::MakeRustlsConnect;                 | homes
src/model/page.rs       | #[derive(diesel::Queryable)] struct Row;                      | homes
src/error.rs            | impl From<Error> for tonic::Status {}                         | homes
src/jobs/health.rs      | use tonic_health::server; use prost_types::Any;               | homes homes
src/grpc/auth.rs        | use jsonwebtoken::decode;                                     | homes
src/store/pool.rs       | use diesel_async::{AsyncPgConnection, pooled_connection};     |
src/server.rs           | use tonic_health::server; use tonic::transport::Server;       |
src/token/access.rs     | use jsonwebtoken::{decode, encode};                           |
src/session/mod.rs      | use crate::model::diesel::X; fn f() { model::tonic::g() }     |

src/model/a.rs          | fn f() { todo!() } fn g() { dbg!(1); unimplemented!() }       | unfinished unfinished unfinished
src/model/a.rs          | #[allow(dead_code)] fn f() {}                                 | allow
src/model/a.rs          | #![cfg_attr(test, allow(unused))]                             | allow
src/model/a.rs          | #[expect(dead_code)] fn f() {}                                | allow
src/model/a.rs          | #[expect(dead_code, reason = 'x')] fn f() {}                  |
tests/it/list.rs        | #[test] #[ignore] fn f() {}                                   | ignore
src/model/a.rs          | pub use std::fmt::*; use super::*;                            | globs globs
src/model/a.rs          | mod tests { use std::io::*; }                                 | globs
tests/it/list.rs        | use super::*;                                                 | globs
src/model/a.rs          | #[cfg(test)] mod tests { use super::*; fn f() { a().unwrap() } } |
src/model/tests.rs      | fn f() { a().unwrap() }                                       |
src/model/a.rs          | #[cfg(test)] use a::b; fn f() { b().unwrap() }                | unwrap
src/session/a.rs        | fn f() { tokio::spawn(g()); set.spawn(g()); thread::spawn(h); } | spawn spawn spawn
src/cli/a.rs            | fn f() { println!(a); eprint!(b); write!(out, c); }            | print print
src/session/a.rs        | fn f() { tasks.supervise(g); command.spawn(); }               |
src/supervise.rs        | fn f() { tokio::spawn(g()); }                                 |
src/session/tests.rs    | fn f() { tokio::spawn(g()); }                                 |
src/model/a.rs          | #[cfg(not(test))] fn f() { a().unwrap() }                     | unwrap
src/model/a.rs          | #[cfg(test)] mod tests { fn f() {{}} } fn g() { a().unwrap() } | unwrap
src/model/a.rs          | fn f() { a().unwrap_or_default() }                            |
tests/it/list.rs        | async fn f() { tokio::time::sleep(SECOND).await; }            | sleep
tests/it/list.rs        | fn f() { a().unwrap() }                                       |
src/cache/a.rs          | /* what is known by heart, Whoever asks */                    | words words
src/cache/a.rs          | /* what is cached, by its key */                              |
";

/// The rules that `code` breaks as the file `file`, and on which lines. Line 1 is its module doc.
fn broken(file: &str, code: &str) -> Vec<(&'static str, usize)> {
    let problems = check(file, &format!("//! A pretended file.\n{code}"));
    problems.iter().map(|problem| (problem.rule, problem.line)).collect()
}

#[test]
fn each_case_is_judged_as_written() {
    for case in CASES.lines().filter(|case| !case.is_empty()) {
        let [file, code, expected] = case.split(" |").collect::<Vec<_>>()[..] else {
            panic!("not `file | code | rules`: {case}");
        };
        let found = broken(file.trim(), code);
        let found: Vec<_> = found.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn no_two_modules_show_a_type_of_one_name() {
    let twice = |one: &str, other: &str| {
        let files = [("src/a.rs", one), ("src/b.rs", other)];
        words::twice(files.into_iter()).iter().map(|it| it.what.clone()).collect::<Vec<_>>()
    };
    let found = twice("x\npub struct Watch<T>;", "pub(in crate::store) enum Watch {");
    assert_eq!(found, ["`Watch` is declared 2 times: src/a.rs:2, src/b.rs:1"]);
    assert!(twice("pub struct Watch;", "struct Watch;").is_empty(), "nobody else sees it");
    assert!(twice("pub struct Watch;", "    pub struct Watch;\npub fn watch() {}").is_empty());
}

#[test]
fn comments_and_strings_are_not_code() {
    let code = r###"
        // use crate::store::pool;  todo!()
        /* /* nested */ diesel::x .unwrap() */
        const A: &str = "use crate::store; \" dbg!(1)";
        const B: &str = r#"crate::store::x "quoted" todo!()"#;
        const C: [u8; 2] = [b'"', b'\''];
        fn f<'a>(x: &'a str) -> impl Fn() -> char + use<'a> { move || '"' }
        /// ```
        /// crate::store::open().unwrap();
        /// ```
        struct S;
    "###;
    assert_eq!(broken("src/grpc/session.rs", code), []);
    assert_eq!(broken("src/grpc/session.rs", &format!("{code}crate::store::f()")).len(), 1);
}

#[test]
fn a_problem_stands_on_its_own_line() {
    let group = "use crate::{\n    error::Error,\n    store::{\n        pool,\n    },\n};";
    assert_eq!(broken("src/grpc/session.rs", group), [("arrows", 5)]);
    assert_eq!(broken("src/model/a.rs", "const A: &str = \"\n\";\ntodo!()"), [("unfinished", 4)]);
}

#[test]
fn files_stay_small_and_say_what_they_are() {
    assert_eq!(broken("src/model/a.rs", &"\n".repeat(299)), []);
    assert_eq!(broken("src/model/a.rs", &"\n".repeat(300)), [("size", 301)]);
    assert_eq!(broken("tests/it/list.rs", &"\n".repeat(300)), [("size", 301)]);
    assert_eq!(broken("src/store/schema.rs", &"\n".repeat(400)), []);
    assert_eq!(check("src/model/a.rs", "use std::fmt;\n")[0].rule, "docs");
}

#[test]
fn a_problem_says_where_which_and_what_to_do() {
    let said = check("src/grpc/session.rs", "//! Docs.\n\nuse crate::store::pool::Database;\n");
    let said = said[0].to_string();
    let start = "src/grpc/session.rs:3: [arrows] `grpc` must not use `store`: ";
    assert!(said.starts_with(start), "{said}");
}
