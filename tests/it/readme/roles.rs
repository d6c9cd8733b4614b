//! The README's table of roles matches the code.

use sessiond::caller::permissions::Role;
use sessiond::model::caller::scope::Scope;

use super::README;

#[test]
fn the_table_of_roles_is_that_of_the_code() {
    let mut table = "| role | scopes |\n|---|---|\n".to_owned();
    for role in Role::ALL {
        let scopes = Scope::ALL.iter().filter(|scope| role.scopes().has(**scope));
        let names: Vec<String> = scopes.map(|scope| format!("`{}`", scope.name())).collect();
        let scopes =
            if names.len() == Scope::ALL.len() { "all".to_owned() } else { names.join(", ") };
        table += &format!("| `{}` | {scopes} |\n", role.name());
    }
    assert!(README.contains(&table), "the README must hold this table:\n{table}");
}
