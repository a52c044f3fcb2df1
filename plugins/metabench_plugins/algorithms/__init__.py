"""The built-in algorithms, one module each."""

from metabench import hookimpl


@hookimpl
def metabench_algorithms() -> list[type]:
    """Return every algorithm of this folder."""
    from metabench_plugins.algorithms.anil import Anil
    from metabench_plugins.algorithms.baseline import Baseline
    from metabench_plugins.algorithms.baselinepp import BaselinePlusPlus
    from metabench_plugins.algorithms.boil import Boil
    from metabench_plugins.algorithms.boosted_trees import BoostedTrees
    from metabench_plugins.algorithms.callable import CallableAlgorithm
    from metabench_plugins.algorithms.cnp import Cnp
    from metabench_plugins.algorithms.hausdorff import Hausdorff
    from metabench_plugins.algorithms.imaml import Imaml
    from metabench_plugins.algorithms.in_context import InContext
    from metabench_plugins.algorithms.k_neighbours import KNeighbours
    from metabench_plugins.algorithms.logistic_regression import LogisticRegression
    from metabench_plugins.algorithms.maml import Maml
    from metabench_plugins.algorithms.mamlpp import MamlPlusPlus
    from metabench_plugins.algorithms.matchingnet import MatchingNet
    from metabench_plugins.algorithms.metalstm import MetaLstm
    from metabench_plugins.algorithms.metasgd import MetaSgd
    from metabench_plugins.algorithms.nearest_centroid import NearestCentroid
    from metabench_plugins.algorithms.nearest_neighbour import NearestNeighbour
    from metabench_plugins.algorithms.protomaml import ProtoMaml
    from metabench_plugins.algorithms.protonet import ProtoNet
    from metabench_plugins.algorithms.r2d2 import R2D2
    from metabench_plugins.algorithms.relationnet import RelationNet
    from metabench_plugins.algorithms.reptile import Reptile
    from metabench_plugins.algorithms.scratch import Scratch
    from metabench_plugins.algorithms.simpleshot import SimpleShot

    return [
        ProtoMaml,
        MetaSgd,
        MamlPlusPlus,
        Imaml,
        Boil,
        Anil,
        Maml,
        Reptile,
        ProtoNet,
        MatchingNet,
        RelationNet,
        R2D2,
        SimpleShot,
        Cnp,
        MetaLstm,
        InContext,
        Baseline,
        BaselinePlusPlus,
        Scratch,
        NearestNeighbour,
        NearestCentroid,
        KNeighbours,
        LogisticRegression,
        BoostedTrees,
        Hausdorff,
        CallableAlgorithm,
    ]
