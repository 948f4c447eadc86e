"""Well-known networks as ONNX files with seeded weights, written as PyTorch exports them. Needs the onnx package."""


class Net:
    """Nodes and constants of a network under construction; every method gives the name of its result."""

    def __init__(self, name):
        import numpy
        import onnx
        import onnx.numpy_helper
        self.np, self.onnx, self.name = numpy, onnx, name
        self.rng, self.nodes, self.consts = numpy.random.default_rng(1), [], []

    def const(self, name, a):
        self.consts.append(self.onnx.numpy_helper.from_array(self.np.ascontiguousarray(a), name))
        return name

    def op(self, kind, ins, name, **attr):
        self.nodes.append(self.onnx.helper.make_node(kind, ins, [name], name, **attr))
        return name

    def conv(self, x, name, c, k, kernel=1, stride=1, group=1, bn=True, act=None):
        """k x c/group x kernel x kernel, padded to keep the size; then BatchNormalization (else a bias), then act(its name)."""
        np = self.np
        fan = c // group * kernel * kernel
        w = self.rng.standard_normal((k, c // group, kernel, kernel), dtype=np.float32) * np.float32((2 / fan) ** 0.5)
        ins = [x, self.const(name + ".w", w)] + ([] if bn else [self.const(name + ".b", np.zeros(k, np.float32))])
        self.op("Conv", ins, name, strides=[stride] * 2, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2, group=group)
        if bn:
            four = [self.const(name + s, self.rng.uniform(lo, hi, k).astype(np.float32))
                    for s, lo, hi in ((".g", 0.5, 1), (".t", -0.1, 0.1), (".m", -0.1, 0.1), (".v", 0.5, 2))]
            name = self.op("BatchNormalization", [name] + four, name + "_bn")
        return act(name) if act else name

    def relu(self, x):
        return self.op("Relu", [x], x + "_relu")

    def relu6(self, x):
        if not any(c.name == "six" for c in self.consts):
            self.const("zero", self.np.float32(0))
            self.const("six", self.np.float32(6))
        return self.op("Clip", [x, "zero", "six"], x + "_relu6")

    def save(self, path, size, outs):
        o, f32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        graph = o.make_graph(self.nodes, self.name, [o.make_tensor_value_info("image", f32, [1, 3, size, size])],
                             [o.make_tensor_value_info(x, f32, None) for x in outs], self.consts)
        self.onnx.save(o.make_model(graph, opset_imports=[o.make_opsetid("", 13)], ir_version=8), path)


def resnet50_fpn(path, size):
    """ResNet-50 (arXiv 1512.03385, stride in the 3x3) with a feature pyramid of 256 channels (arXiv 1612.03144)."""
    n = Net("resnet50_fpn")
    x = n.op("MaxPool", [n.conv("image", "stem", 3, 64, 7, 2, act=n.relu)], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    c, levels = 64, []
    for stage, (width, depth) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for i in range(depth):
            name, stride = "layer%d.%d" % (stage + 1, i), 2 if i == 0 and stage else 1
            y = n.conv(n.conv(x, name + ".1", c, width, act=n.relu), name + ".2", width, width, 3, stride, act=n.relu)
            y = n.conv(y, name + ".3", width, 4 * width)
            s = n.conv(x, name + ".d", c, 4 * width, 1, stride) if i == 0 else x
            x, c = n.relu(n.op("Add", [y, s], name + ".sum")), 4 * width
        levels.append((x, c))
    scales, top, outs = n.const("scales", n.np.array([1, 1, 2, 2], n.np.float32)), None, []
    for i in (3, 2, 1, 0):
        x = n.conv(levels[i][0], "lateral%d" % (i + 2), levels[i][1], 256, bn=False)
        if top:
            up = n.op("Resize", [top, "", scales], "up%d" % (i + 2), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
            x = n.op("Add", [x, up], "merge%d" % (i + 2))
        top = x
        outs.append(n.conv(x, "P%d" % (i + 2), 256, 256, 3, bn=False))
    outs.append(n.op("MaxPool", [outs[0]], "P6", kernel_shape=[1, 1], strides=[2, 2]))
    n.save(path, size, outs)


def mobilenet_v2(path, size):
    """MobileNetV2 (arXiv 1801.04381)."""
    n = Net("mobilenet_v2")
    x, c, i = n.conv("image", "stem", 3, 32, 3, 2, act=n.relu6), 32, 0
    for times, k, repeats, first in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for r in range(repeats):
            name, stride, wide, y = "block%d" % i, first if r == 0 else 1, c * times, x
            if times > 1:
                y = n.conv(y, name + ".expand", c, wide, act=n.relu6)
            y = n.conv(y, name + ".depthwise", wide, wide, 3, stride, wide, act=n.relu6)
            y = n.conv(y, name + ".project", wide, k)
            x, c, i = n.op("Add", [x, y], name + ".sum") if stride == 1 and c == k else y, k, i + 1
    x = n.op("GlobalAveragePool", [n.conv(x, "head", c, 1280, act=n.relu6)], "pool")
    w = n.const("classes.w", n.rng.standard_normal((1000, 1280), dtype=n.np.float32) * n.np.float32(1280 ** -0.5))
    n.op("Gemm", [n.op("Flatten", [x], "flat"), w], "logits", transB=1)
    n.save(path, size, ["logits"])
