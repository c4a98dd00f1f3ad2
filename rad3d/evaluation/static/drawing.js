// What plotly draws of a figure that the server describes: on a phone its phone layout.

const isObject = (value) => value && typeof value === "object" && !Array.isArray(value);

function merged(base, changes) {
  const result = { ...base };
  for (const [key, value] of Object.entries(changes)) {
    result[key] = isObject(value) && isObject(base?.[key]) ? merged(base[key], value) : value;
  }
  return result;
}

export function drawing({ data, layout }, narrow, look) {
  const { narrow: phone = {}, narrow_traces: traces = {} } = (narrow && layout.meta) || {};
  return {
    data: data.map((trace) => merged(structuredClone(trace), traces)),
    layout: merged(merged(structuredClone(layout), structuredClone(phone)), look),
  };
}
