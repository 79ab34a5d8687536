import type { Task } from "../api/shapes";

/** Outputs that are neither models nor what models are made of. */
const BESIDE = ["metrics", "page"];

export interface Published {
  digest: string;
  task: Task;
}

/** What tasks have published: models, trunks, populations. */
export function published(tasks: readonly Task[]): Published[] {
  return tasks.flatMap((task) =>
    Object.entries(task.digests ?? {})
      .filter(([name]) => !BESIDE.includes(name))
      .map(([, digest]) => ({ digest, task })),
  );
}
