//! `update_mask`: which fields an update sets.

use prost_types::FieldMask;

use crate::grpc::convert::check::Check;

/// The fields to set: those that the mask names, or without paths those that are populated. `fields` lists all fields
/// that can be set, each with whether it is populated.
pub fn chosen(
    check: &mut Check,
    mask: Option<FieldMask>,
    fields: &[(&'static str, bool)],
) -> Vec<&'static str> {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    names_only(check, mask.as_ref(), &names);
    let paths = mask.unwrap_or_default().paths;
    let named = |name: &str| paths.iter().any(|path| path == name);
    let chosen: Vec<&str> = fields
        .iter()
        .filter(|(name, populated)| if paths.is_empty() { *populated } else { named(name) })
        .map(|(name, _)| *name)
        .collect();
    if chosen.is_empty() && paths.is_empty() {
        let rule = format!("must name one of {}, unless one is populated", names.join(", "));
        check.broken("update_mask", rule);
    }
    chosen
}

/// Checks the paths of a mask, which may name only `names`.
pub fn names_only(check: &mut Check, mask: Option<&FieldMask>, names: &[&str]) {
    let mut paths = mask.iter().flat_map(|mask| &mask.paths);
    if paths.any(|path| !names.contains(&path.as_str())) {
        // The unknown path is not repeated in the response, since it may have any length.
        check.broken("update_mask", format!("must name only {}", names.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, bool); 3] = [("a", true), ("b", false), ("c", true)];

    fn of(paths: &[&str]) -> Result<Vec<&'static str>, crate::error::Error> {
        let mut check = Check::default();
        let paths = paths.iter().map(ToString::to_string).collect();
        let chosen = chosen(&mut check, Some(FieldMask { paths }), &FIELDS);
        check.done().map(|()| chosen)
    }

    #[test]
    fn the_mask_or_else_the_populated_fields_decide() {
        assert_eq!(of(&["b", "b"]).ok(), Some(vec!["b"]));
        assert_eq!(of(&["c", "b"]).ok(), Some(vec!["b", "c"]));
        assert_eq!(of(&[]).ok(), Some(vec!["a", "c"]));
        assert_eq!(chosen(&mut Check::default(), None, &FIELDS), ["a", "c"]);
    }

    #[test]
    fn other_names_and_no_names_are_broken() {
        for paths in [&["d"][..], &["a", ""], &["*"], &["A"], &["a.b"]] {
            assert!(of(paths).is_err(), "{paths:?}");
        }
        let mut check = Check::default();
        assert!(chosen(&mut check, None, &[("a", false)]).is_empty());
        assert!(check.done().is_err());
    }
}
