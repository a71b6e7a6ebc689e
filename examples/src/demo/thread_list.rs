//! The list of green threads, written as JSON or as a page.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use super::escape;

/// A line of the list.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) label: Option<String>,
    pub(super) state: String,
    pub(super) blocked_on: Option<String>,
    pub(super) capability: usize,
    pub(super) age: Duration,
    pub(super) cpu_time: Duration,
    pub(super) switches: u64,
}

impl From<bast::ThreadInfo> for Row {
    fn from(thread: bast::ThreadInfo) -> Row {
        Row {
            id: thread.id.get(),
            label: thread.label,
            state: thread.state.to_string(),
            blocked_on: thread.blocked_on.map(|what| what.to_string()),
            capability: thread.capability,
            age: thread.age,
            cpu_time: thread.cpu_time,
            switches: thread.switches,
        }
    }
}

/// About what a row takes in either form, so that a hundred thousand of them do not grow the text step by step.
const ROW_BYTES: usize = 200;

/// An object with one member, `threads`, an array of objects; what is not known is null.
pub(super) fn json(rows: &[Row]) -> String {
    let mut out = String::with_capacity(ROW_BYTES * (rows.len() + 1));
    out.push_str("{\"threads\":[");
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{{\"id\":{},\"label\":", row.id);
        json_or_null(row.label.as_deref(), &mut out);
        out.push_str(",\"state\":");
        escape::json(&row.state, &mut out);
        out.push_str(",\"blocked_on\":");
        json_or_null(row.blocked_on.as_deref(), &mut out);
        let _ = write!(
            out,
            ",\"capability\":{},\"age_seconds\":{:.3},\"cpu_seconds\":{:.3},\"switches\":{}}}",
            row.capability,
            row.age.as_secs_f64(),
            row.cpu_time.as_secs_f64(),
            row.switches
        );
    }
    out.push_str("\n]}\n");
    out
}

fn json_or_null(text: Option<&str>, out: &mut String) {
    match text {
        Some(text) => escape::json(text, out),
        None => out.push_str("null"),
    }
}

/// A page with one table.
pub(super) fn page(rows: &[Row]) -> String {
    let mut out = String::with_capacity(ROW_BYTES * (rows.len() + 10));
    out.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Threads</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\n",
    );
    let _ = write!(out, "<h1>{} threads</h1>\n<table>\n", rows.len());
    out.push_str("<tr><th>Id<th>Label<th>State<th>Blocked on<th>Capability<th>Age<th>CPU<th>Switches\n");
    for row in rows {
        let _ = write!(out, "<tr><td>{}<td>", row.id);
        escape::html(row.label.as_deref().unwrap_or_default(), &mut out);
        out.push_str("<td>");
        escape::html(&row.state, &mut out);
        out.push_str("<td>");
        escape::html(row.blocked_on.as_deref().unwrap_or_default(), &mut out);
        out.push_str("<td>");
        let (age, cpu) = (row.age.as_secs_f64(), row.cpu_time.as_secs_f64());
        let _ = writeln!(out, "{}<td>{age:.3} s<td>{cpu:.2} s<td>{}", row.capability, row.switches);
    }
    out.push_str("</table>\n</html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 2] {
        [
            Row {
                id: 7,
                label: Some("<i>\"x\"</i>".into()),
                state: "blocked".into(),
                blocked_on: Some("read fd 9".into()),
                capability: 1,
                age: Duration::from_millis(1500),
                cpu_time: Duration::from_millis(20),
                switches: 12,
            },
            Row {
                id: 8,
                label: None,
                state: "unstarted".into(),
                blocked_on: None,
                capability: 0,
                age: Duration::ZERO,
                cpu_time: Duration::ZERO,
                switches: 0,
            },
        ]
    }

    #[test]
    fn the_list_is_json_with_null_for_what_is_not_known() {
        let expected = concat!(
            "{\"threads\":[\n",
            r#"{"id":7,"label":"\u003ci>\"x\"\u003c/i>","state":"blocked","blocked_on":"read fd 9","#,
            r#""capability":1,"age_seconds":1.500,"cpu_seconds":0.020,"switches":12},"#,
            "\n",
            r#"{"id":8,"label":null,"state":"unstarted","blocked_on":null,"capability":0,"age_seconds":0.000,"cpu_seconds":0.000,"switches":0}"#,
            "\n]}\n"
        );
        assert_eq!(json(&rows()), expected);
        assert_eq!(json(&[]), "{\"threads\":[\n]}\n");
    }

    #[test]
    fn a_label_is_text_on_the_page_and_never_markup() {
        let page = page(&rows());
        assert!(page.contains(
            "<tr><td>7<td>&lt;i&gt;&quot;x&quot;&lt;/i&gt;<td>blocked<td>read fd 9<td>1<td>1.500 s<td>0.02 s<td>12\n"
        ));
        assert!(page.contains("<tr><td>8<td><td>unstarted<td><td>0<td>0.000 s<td>0.00 s<td>0\n"));
        assert!(page.contains("<h1>2 threads</h1>"));
    }
}
