//! The scope and the custom claims that a caller adds to access tokens.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as PbValue};
use serde_json::{Map, Number, Value};

use crate::grpc::convert::check::Check;
use crate::model::claims::{CustomClaims, is_scope};

/// The largest integer up to which a `double` represents all integers exactly.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// Checks a scope; empty = none.
pub fn scope(check: &mut Check, text: String) -> Option<String> {
    if !text.is_empty() && !is_scope(&text) {
        let rule = "must be scope tokens with one space between each two, at most 1024 characters";
        check.broken("scope", rule);
    }
    Some(text).filter(|text| !text.is_empty())
}

/// Checks claims; `None` for an empty object.
pub fn claims(check: &mut Check, object: Struct) -> Option<CustomClaims> {
    let mut is_finite = true;
    let claims = CustomClaims::new(map(object, &mut is_finite));
    if !is_finite {
        check.broken("claims", "must have finite numbers only");
    }
    check.take_all("claims", claims).flatten()
}

/// Claims as a protobuf message.
pub fn to_pb_claims(claims: &CustomClaims) -> Struct {
    to_struct(claims.members())
}

/// The members as JSON. A number that is not finite becomes null and clears `is_finite`.
fn map(object: Struct, is_finite: &mut bool) -> Map<String, Value> {
    let members = object.fields.into_iter();
    members.map(|(name, member)| (name, value(member, is_finite))).collect()
}

fn value(value: PbValue, is_finite: &mut bool) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => match self::number(number) {
            Some(number) => Value::Number(number),
            None => {
                *is_finite = false;
                Value::Null
            }
        },
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StructValue(object)) => Value::Object(map(object, is_finite)),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(|v| self::value(v, is_finite)).collect())
        }
    }
}

/// A JSON number; whole numbers become integers, since a protobuf `Struct` has only doubles.
fn number(number: f64) -> Option<Number> {
    match number.fract() == 0.0 && number.abs() <= EXACT {
        true => Some(Number::from(number as i64)),
        false => Number::from_f64(number),
    }
}

fn to_struct(members: Map<String, Value>) -> Struct {
    Struct { fields: members.into_iter().map(|(name, member)| (name, to_value(member))).collect() }
}

fn to_value(value: Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(elements) => {
            Kind::ListValue(ListValue { values: elements.into_iter().map(to_value).collect() })
        }
        Value::Object(members) => Kind::StructValue(to_struct(members)),
    };
    PbValue { kind: Some(kind) }
}
