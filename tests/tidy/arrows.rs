//! Dependencies: the layers of the crate, and the modules that may use certain crates.

use crate::Problem;
use crate::lexer::Token;
use crate::paths::{Used, module_of, used};

/// Modules that every module may use.
const FLOOR: &str = "broken clock error config telemetry metrics supervise";

/// Module, and after the arrow the modules it may use besides itself and the floor.
/// Arrows run only downward. `grpc` and `jobs` use neither each other nor `store`. `alert` is above `session`, whose
/// ends and incidents it uses. `alert`, `activity`, `token`, `caller` and `detection` do not use each other.
const ARROWS: &str = "
cli          -> server edge http grpc jobs session alert activity token caller detection cache store model dev_postgres
server       -> edge http grpc jobs session alert activity token caller detection cache store model dev_postgres

grpc         -> session alert activity token caller detection cache model
jobs         -> edge session alert activity token caller detection cache model

edge         -> model
http         -> edge token model
gateway      -> grpc token model
session      -> activity detection token cache store model
alert        -> session cache store model
activity     -> cache store model
token        -> cache store model
caller       -> cache store model
detection    -> model

cache        -> store model
store        -> model
model        ->

broken       ->
clock        -> model
error        -> model
config       -> model
telemetry    -> model
metrics      -> model
supervise    ->
dev_postgres ->
";

/// Crates, and after the arrow the modules that may use them. `name*` is every crate named so.
const HOMES: &str = "
tonic* prost*                -> grpc server gateway
diesel* bb8 tokio_postgres*  -> store
jsonwebtoken                 -> token
maxminddb                    -> session
governor                     -> session caller
opentelemetry* tracing_opentelemetry -> telemetry
hyper* tokio_rustls          -> edge http
x509*                        -> edge store
";

/// Checks one file under `src/`.
pub fn check(file: &str, tokens: &[Token]) -> Vec<Problem> {
    let modules = module_of(file);
    // lib.rs is the map and main.rs the entry: they may name every module.
    let own = modules.first().map(String::as_str);
    let mut problems = Vec::new();
    if let Some(own) = own
        && allowed(own).is_none()
    {
        let what = format!("`{own}` has no row: add it to ARROWS in tests/tidy/arrows.rs");
        problems.push(Problem::new(file, 1, "arrows", what));
    }
    for found in used(file, tokens) {
        let what = match found.inside {
            true => own.and_then(|own| forbidden_module(own, &found)),
            false => forbidden_crate(own.unwrap_or_default(), &found),
        };
        problems.extend(what.map(|(rule, what)| Problem::new(file, found.line, rule, what)));
    }
    problems
}

/// The rows of a table: what stands before the arrow and what after it.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = table.lines().filter_map(|row| row.split_once("->"));
    rows.map(|(left, right)| (left.trim(), right.trim()))
}

fn allowed(module: &str) -> Option<&'static str> {
    rows(ARROWS).find(|(name, _)| *name == module).map(|(_, allowed)| allowed)
}

fn lists(words: &str, word: &str) -> bool {
    words.split(' ').any(|one| match one.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => one == word,
    })
}

fn forbidden_module(own: &str, found: &Used) -> Option<(&'static str, String)> {
    let Some(target) = found.path.first() else {
        let what = "do not import the crate's root: name the module that is used";
        return Some(("arrows", what.to_owned()));
    };
    if target == own || lists(FLOOR, target) || lists(allowed(own)?, target) {
        return None;
    }
    let what = match allowed(target) {
        None => format!("`crate::{target}` is no module in ARROWS: name the item by its module"),
        Some(_) => format!(
            "`{own}` must not use `{target}`: move the code to a layer that may, or pass plain \
             `model` values (ARROWS in tests/tidy/arrows.rs lists who may use whom)"
        ),
    };
    Some(("arrows", what))
}

fn forbidden_crate(own: &str, found: &Used) -> Option<(&'static str, String)> {
    let name = found.path.first()?;
    let (_, homes) = rows(HOMES).find(|(crates, _)| lists(crates, name))?;
    if lists(homes, own) {
        return None;
    }
    let homes = homes.replace(' ', " and ");
    let what = format!("`{name}` lives only in {homes}: put what needs it there");
    Some(("homes", what))
}
