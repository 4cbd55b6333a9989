//! Checks a line of OCSF against the JSON Schema of its class.
//!
//! The keywords are those of the two schemas; another one fails the test. `scripts/ocsf` has the
//! same lines checked by a validator that others have written.

use std::sync::LazyLock;

use serde_json::Value;

/// The schemas by the number of their class. Parsing one takes longer than checking a line.
static CLASSES: LazyLock<[(u64, Value); 2]> = LazyLock::new(|| {
    let schema = |text| serde_json::from_str(text).unwrap();
    [
        (5019, schema(include_str!("schema/device_config_state_change.json"))),
        (0, schema(include_str!("schema/base_event.json"))),
    ]
});

/// Returns the faults of a line, each with its place.
pub(crate) fn faults(line: &str) -> Vec<String> {
    let event: Value = match serde_json::from_str(line) {
        Ok(event) => event,
        Err(error) => return vec![error.to_string()],
    };
    let Some((_, schema)) = CLASSES.iter().find(|(uid, _)| event["class_uid"] == *uid) else {
        return vec![format!("class_uid: {}", event["class_uid"])];
    };
    let mut faults = Vec::new();
    check(schema, schema, &event, "", &mut faults);
    // The schema has the possible values of each field by itself.
    let [class, activity, kind] = ["class_uid", "activity_id", "type_uid"].map(|key| event[key].as_u64());
    if class.zip(activity).map(|(class, activity)| class * 100 + activity) != kind {
        faults.push("type_uid: it is not class_uid * 100 + activity_id".to_owned());
    }
    faults
}

fn check(schema: &Value, root: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().unwrap() {
        let is_right = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "deprecated" => true,
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                check(target, root, value, at, faults);
                true
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
                kind => is_of(kind, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "maxLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap())
            }
            "required" => {
                rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some())
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|one| {
                let mut found = Vec::new();
                check(one, root, value, at, &mut found);
                found.is_empty()
            }),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, root, item, &format!("{at}/{number}"), faults);
                }
                true
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        check(rule, root, value, &format!("{at}/{key}"), faults);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = |key: &String| schema["properties"].get(key).is_some();
                rule == true || value.as_object().is_none_or(|object| object.keys().all(known))
            }
            other => panic!("{at}: the keyword {other} is not known here"),
        };
        if !is_right {
            faults.push(format!("{at}: {keyword} {rule}: {value}"));
        }
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known here"),
    }
}
