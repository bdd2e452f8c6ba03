// Everything that is known of one run.
import { copyButton, el, facts, name } from "./dom.js";
import { MISSING, duration, fixed, moment, size } from "./format.js";
import { chart, choice } from "./charts.js";
import { detectorOf } from "./detectors.js";
import { calledCurve, drawCurves, seriesOf } from "./curves.js";
import { pictureNode } from "./gallery.js";

/** Return the parts of a run's page. */
export function provenance(run, id, details, entry) {
  return [
    run.failure ? failure(run.failure) : null,
    repeat(run.repeat),
    part("Result", results(run)),
    part("Weights", weights(run)),
    part("Data and rules", rules(run)),
    detectorOf(run) ? part("Detector", tree(detectorOf(run))) : null,
    run.curves && Object.keys(run.curves).length ? part("Curves", curvesOf(run)) : null,
    run.pictures?.length ? part("Pictures", el("div", { class: "pictures" }, run.pictures.map((picture) => pictureNode(picture, entry)))) : null,
    part("Attempts", attempts(run.attempts)),
    run.environment === undefined ? null : part("Environment", environment(details.environments[run.environment], run)),
    run.details && Object.keys(run.details).length ? part("What was decided", tree({ ...run.details, detector: undefined })) : null,
    run.recipe === undefined ? null : part("Recipe", tree(details.recipes[run.recipe])),
    run.files?.length ? part("Files", files(run.files)) : null,
    part("Record", facts([["Run", el("code", {}, id)], ["Started", run.created && moment(run.created)], ["Finished", run.finished && moment(run.finished)], ["Warnings", run.warnings?.map((text) => el("p", {}, text))]])),
  ];
}

function part(title, content) {
  return el("section", {}, el("h3", {}, title), content);
}

function failure(found) {
  return el("div", { class: "notice failed" }, el("b", {}, `Failed while it was at “${found.phase}”: `), name(found.message), found.hint ? el("p", {}, name(found.hint)) : null, el("small", {}, found.type));
}

function repeat(found) {
  if (!found) return null;
  return part("Do it again", el("div", {}, el("div", { class: "command" }, el("code", { tabindex: "0" }, found.command), copyButton(found.command)), found.note ? el("p", { class: "quiet" }, found.note) : null));
}

function results(run) {
  if (!run.metrics || !Object.keys(run.metrics).length) return el("p", { class: "quiet" }, "No numbers.");
  const shown = Object.entries(run.metrics).map(([metric, value]) => [metric, typeof value === "number" ? fixed(value, 2) : el("span", { class: "quiet" }, value ?? MISSING)]);
  const costs = Object.entries(run.cost ?? {}).map(([key, value]) => [key.replaceAll("_", " "), key.startsWith("seconds") ? duration(value) : value === null ? MISSING : fixed(value, 2)]);
  return el("div", {}, facts(shown, "short"), el("h4", {}, "Price"), facts(costs, "short"));
}

function weights(run) {
  const { spec, backbone } = run;
  return facts([
    ["SHA-256", el("code", {}, spec.weights_sha256)], ["Backbone", name(spec.backbone)], ["Method", backbone && name(backbone.method)], ["Layout", [spec.weights_format, spec.weights_branch].filter(Boolean).join(", ")],
    ["Pretrained on", backbone && name([backbone.data, backbone.epochs ? `${backbone.epochs} epochs` : "", backbone.img_size ? `${backbone.img_size} px` : ""].filter(Boolean).join(", "))],
    ["Loaded", backbone && name(backbone.coverage)], ["Licence", backbone && name(backbone.licence)],
  ]);
}

function rules(run) {
  const { spec, labels } = run;
  return facts([
    ["Task", `${spec.task} version ${spec.task_version}`], ["Protocol", labels && name(labels.protocol)], ["Recipe", labels && name(labels.recipe)], ["Data", labels && name(labels.data)],
    ["Data fingerprint", el("code", {}, spec.data_fingerprint)], ["Limited to", spec.limit_images === null ? null : `${spec.limit_images} images`],
    ["Seed", String(spec.seed)], ["Precision", spec.precision], ["Batch", `${spec.batch_size} images`],
  ]);
}

function curvesOf(run) {
  const holder = el("div", { class: "drawing" });
  const show = (series) => holder.replaceChildren(drawCurves(series, [{ label: series, seed: run.spec.seed, curves: run.curves }], { width: Math.min(640, innerWidth - 60), height: 200 }));
  const names = seriesOf([run]);
  if (!names.length) return el("p", { class: "quiet" }, MISSING);
  show(names[0]);
  return el("div", {}, el("div", { class: "choices" }, choice("Curve", names.map((one) => [one, calledCurve(one)]), names[0], show)), holder);
}

function attempts(list) {
  if (!list?.length) return el("p", { class: "quiet" }, "None has ended yet.");
  return el("ol", { class: "attempts" }, list.map(([number, host, started, ended, outcome, reason]) => el("li", { value: number },
    el("span", { class: `outcome ${outcome}` }, outcome), ` ${moment(started)} to ${moment(ended)}`, host ? [" on ", name(host)] : null, reason ? el("p", {}, name(reason)) : null)));
}

function environment(found, run) {
  return el("div", {}, tree(found), run.slurm ? [el("h4", {}, "Slurm"), tree(run.slurm)] : null);
}

/** Return plain values as nested lists of facts. */
function tree(value) {
  if (Array.isArray(value)) {
    if (!value.some((item) => item !== null && typeof item === "object")) return name(value.map((item) => (typeof item === "string" ? item : JSON.stringify(item))).join(", ") || MISSING);
    return el("ul", {}, value.map((item) => el("li", {}, tree(item))));
  }
  if (value !== null && typeof value === "object") return facts(Object.entries(value).filter(([, item]) => item !== undefined).map(([key, item]) => [name(key.replaceAll("_", " ")), tree(item)]));
  return name(value === null || value === "" ? MISSING : String(value));
}

function files(list) {
  return el("ul", { class: "files" }, list.map(([path, sha256, bytes]) => el("li", {}, name(path), ` ${size(bytes)} `, el("code", { title: "the first digits of its SHA-256; the record has all" }, `${sha256}…`))));
}
